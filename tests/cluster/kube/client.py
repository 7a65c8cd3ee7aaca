"""What a test talks to a cluster through: kubectl, with answers as values and refusals as text."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Body = dict[str, Any]

POLL_S = 0.25


class Refused(AssertionError):
    """The API server said no; `text` is what the user would have read."""

    def __init__(self, command: Sequence[str], text: str) -> None:
        super().__init__(f"kubectl {' '.join(command)}: {text}")
        self.text = text


class Kube:
    """One identity towards one cluster. `as_user` makes another one of the same cluster."""

    def __init__(self, kubectl: Path, kubeconfig: Path, home: Path | None, identity: Sequence[str] = ()) -> None:
        self._kubectl, self.kubeconfig, self._home, self._identity = kubectl, kubeconfig, home, list(identity)

    def as_user(self, user: str, *groups: str) -> Kube:
        """Impersonates; a user is in `system:authenticated` only when it is named among the groups."""
        identity = [f"--as={user}", *(f"--as-group={group}" for group in groups)]
        return Kube(self._kubectl, self.kubeconfig, self._home, identity)

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; raises Refused with what it wrote to stderr unless `check` is false."""
        env = dict(os.environ)
        if self._home is not None:
            env["HOME"] = str(self._home)  # its discovery cache goes with the cluster
        done = subprocess.run(
            [self._kubectl, f"--kubeconfig={self.kubeconfig}", *self._identity, *argv],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            env=env,
            timeout=120,
            check=False,
        )
        if check and done.returncode != 0:
            raise Refused(argv, done.stderr.strip())
        return done

    def apply(
        self, *objects: Mapping[str, Any] | str | Path, namespace: str | None = None, dry_run: bool = False
    ) -> str:
        """Server-side apply of values, YAML text or files; returns warnings. Raises Refused with the server's words."""
        argv = ["apply", "--server-side", "--force-conflicts", "--field-manager=test", "-f", "-", *_in(namespace)]
        if dry_run:
            argv.append("--dry-run=server")
        return self.kubectl(*argv, stdin=_documents(objects)).stderr.strip()

    def create(self, *objects: Mapping[str, Any] | str | Path, namespace: str | None = None) -> str:
        return self.kubectl("create", "-f", "-", *_in(namespace), stdin=_documents(objects)).stderr.strip()

    def refusal(self, *objects: Mapping[str, Any] | str | Path, namespace: str | None = None) -> str:
        """What the API server says against the objects; fails when it takes them."""
        try:
            self.apply(*objects, namespace=namespace)
        except Refused as refused:
            return refused.text
        raise AssertionError(f"the API server took what it should refuse:\n{_documents(objects)}")

    def namespace(self, name: str) -> None:
        """Makes a namespace and waits until pods can be made in it."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.wait("serviceaccount", "default", lambda found: True, timeout_s=30, namespace=name)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Body | None:
        done = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", *_in(namespace))
        return dict(json.loads(done.stdout)) if done.stdout.strip() else None

    def must_get(self, kind: str, name: str, namespace: str | None = None) -> Body:
        found = self.get(kind, name, namespace)
        assert found is not None, f"{kind} {name} is not there"
        return found

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Body]:
        picked = [f"--selector={selector}"] if selector else []
        done = self.kubectl("get", kind, "-o", "json", *picked, *_in(namespace))
        return list(json.loads(done.stdout)["items"])

    def patch(self, kind: str, name: str, body: Mapping[str, Any], namespace: str | None = None) -> None:
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(body), *_in(namespace))

    def delete(self, kind: str, name: str, namespace: str | None = None, wait: bool = True) -> None:
        self.kubectl("delete", kind, name, "--ignore-not-found", f"--wait={str(wait).lower()}", *_in(namespace))

    def logs(self, pod: str, namespace: str | None = None, previous: bool = False) -> str:
        more = ["--previous"] if previous else []
        return self.kubectl("logs", pod, "--all-containers", *more, *_in(namespace)).stdout

    def can(self, verb: str, resource: str, namespace: str | None = None, subresource: str = "") -> bool:
        part = [f"--subresource={subresource}"] if subresource else []
        return (
            self.kubectl("auth", "can-i", verb, resource, *part, *_in(namespace), check=False).stdout.strip() == "yes"
        )

    def wait(
        self,
        kind: str,
        name: str,
        until: Callable[[Body], object],
        timeout_s: float = 60,
        namespace: str | None = None,
    ) -> Body:
        """The object once `until` is true of it. A failure shows the object, its namespace's events and pod logs."""
        last: Body | None = None

        def look() -> Body | None:
            nonlocal last
            last = self.get(kind, name, namespace)
            return last if last is not None and until(last) else None

        try:
            return wait_for(f"{kind} {name}", look, timeout_s)
        except TimeoutError as late:
            state = json.dumps(_brief(last), indent=1) if last is not None else "not there"
            raise AssertionError(f"{late}\n{kind} {name}: {state}\n{self.diagnose(namespace)}") from None

    def wait_gone(self, kind: str, name: str, timeout_s: float = 60, namespace: str | None = None) -> None:
        wait_for(f"{kind} {name} gone", lambda: self.get(kind, name, namespace) is None, timeout_s)

    def diagnose(self, namespace: str | None = None) -> str:
        """Pods, events and the ends of the logs of a namespace, for a failure message."""
        scope = _in(namespace or "default")
        pods = self.kubectl("get", "pods", "-o", "wide", *scope, check=False)
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp", *scope, check=False)
        parts = [f"--- pods\n{pods.stdout}{pods.stderr}", f"--- events\n{events.stdout[-6000:]}{events.stderr}"]
        for pod in self.list("pods", namespace or "default"):
            name = pod["metadata"]["name"]
            log = self.kubectl("logs", name, "--all-containers", "--tail=40", *scope, check=False)
            parts.append(f"--- log of {name}\n{log.stdout}{log.stderr}")
        return "\n".join(parts)


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float) -> T:
    """The first true answer of `look`."""
    end = time.monotonic() + timeout_s
    while True:
        if answer := look():
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(POLL_S)


def _in(namespace: str | None) -> list[str]:
    return ["-n", namespace] if namespace else []


def _documents(objects: Sequence[Mapping[str, Any] | str | Path]) -> str:
    def text(one: Mapping[str, Any] | str | Path) -> str:
        if isinstance(one, Path):
            return one.read_text()
        return one if isinstance(one, str) else json.dumps(one)

    return "\n---\n".join(text(one) for one in objects)


def _brief(body: Body) -> Body:
    """Without what only machines read."""
    metadata = {key: value for key, value in body.get("metadata", {}).items() if key != "managedFields"}
    return {**body, "metadata": metadata}
