"""What is wrong with an object, in sentences that name the field and say what to do."""

from __future__ import annotations

from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.group_templates import GROUP_TEMPLATES

KINDS: dict[str, type[BaseModel]] = {"GreenJob": GreenJob, "GreenCronJob": GreenCronJob, "GreenRegion": GreenRegion}

TEMPLATES = ("template", *GROUP_TEMPLATES)  # fields whose faults lie further in


def sentences(error: ValidationError) -> list[str]:
    """One sentence per fault: field, what is wrong, and for a misspelt key the likely one."""
    out = []
    for fault in error.errors(include_url=False):
        path = ".".join(str(p) for p in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = _unknown(error.title, fault["loc"])
        elif fault["type"] == "missing":
            message = "is required"
        last = str(fault["loc"][-1]) if fault["loc"] else ""
        if last in TEMPLATES and message.startswith(last):
            message = "; ".join(path.removesuffix(last) + part for part in message.split("; "))
        sentence = message if message.startswith(("spec", "metadata.")) else f"{path}: {message}"
        if sentence not in out:
            out.append(sentence)
    return out


def _unknown(kind: str, loc: tuple[int | str, ...]) -> str:
    """An unknown key, with the known key that is nearest to it."""
    known = _keys(KINDS.get(kind), loc[:-1])
    near = get_close_matches(str(loc[-1]), known, n=1, cutoff=0.6)
    hint = f": did you mean {near[0]}?" if near else f": known here are {', '.join(known[:12])}" if known else ""
    return f"unknown field{hint}"


def _keys(model: type[BaseModel] | None, path: tuple[int | str, ...]) -> list[str]:
    """Keys that an object may have at `path`."""
    for part in path:
        if model is None:
            return []
        if isinstance(part, int):  # an item of a list: its model was found with the list
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
    return sorted(f.alias or n for n, f in model.model_fields.items()) if model is not None else []
