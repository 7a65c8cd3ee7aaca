"""A small random model, the server on it as a process of its own, and what reads its streams."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
from worker.conftest import PACKAGES

TOKEN = "a-token-for-tests-0123456789"
CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
NAME = "small"


def save_small(folder, *, width=64, layers=2, vocabulary=300, context=4096, chat=CHAT):
    """A random decoder whose answers vary, in Hugging Face's layout."""
    import torch

    from windward_worker.model import Decoder, ModelConfig, learn_bpe, save_folder

    torch.set_num_threads(1)
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 16,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    ends = {"tie_word_embeddings": False, "eos_token_id": 0, "bos_token_id": 0}
    decoder = Decoder(
        ModelConfig(
            vocab_size=vocabulary, intermediate_size=2 * width, max_position_embeddings=context, **sizes, **ends
        )
    )
    decoder.initialise(1)
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if weight.dim() > 1:
                weight.mul_(20 if "lm_head" in name else 6)
    save_folder(decoder, learn_bpe(["wind and sun and rain " * 40], vocabulary), folder)
    (folder / "chat_template.jinja").write_text(chat)
    return folder


class Server:
    """`windward-worker serve` as a process; its log is read as it comes."""

    def __init__(self, model, *flags, token=TOKEN, env=None, prelude=""):
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGES), "OMP_WAIT_POLICY": "PASSIVE", **(env or {})}
        if token:
            environ["WINDWARD_SERVE_TOKEN"] = token
        command = [sys.executable, "-P", "-m", "windward_worker", "serve", "--model", str(model)]
        if prelude:  # a line of Python that comes first
            main = "import sys; from windward_worker.cli import main; sys.exit(main())"
            command[2:4] = ["-c", f"{prelude}; {main}"]
        self.child = subprocess.Popen(
            [*command, "--port", "0", "--ops-port", "0", *map(str, flags)],
            env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines = []
        self._ports = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ports.wait(120), "".join(self.lines)
        found = re.search(r"on 127.0.0.1:(\d+), metrics on port (\d+)", self.log)
        assert found, self.log
        self.url, self.ops = (f"http://127.0.0.1:{port}" for port in found.groups())

    def _read(self):
        for line in self.child.stderr:
            self.lines.append(line)
            if "metrics on port" in line:
                self._ports.set()
        self._ports.set()

    @property
    def log(self):
        return "".join(self.lines)

    def client(self, token=TOKEN, **options):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def metrics(self):
        """Samples by name; labels other than the model's are part of it."""
        made = {}
        for line in httpx.get(f"{self.ops}/metrics").text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = re.sub(rf'model_name="{NAME}",?', "", name).replace("{}", "").replace(",}", "}")
                made[name] = float(value)
        return made

    def terminate(self):
        self.child.send_signal(signal.SIGTERM)

    def wait(self, limit_s=60):
        code = self.child.wait(limit_s)
        self._reader.join(10)
        return code

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.wait()


def events(response):
    """The documents of a stream, which must close with [DONE]."""
    found = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert found.pop() == "[DONE]"
    return [json.loads(each) for each in found]


def eventually(condition, limit_s=30.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
