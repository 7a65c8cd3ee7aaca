"""Foreign data is read in one place: an object that cannot be read becomes a `BadObject`, never an exception."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from windward.cluster.port import BadObject
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.sentences import sentences

M = TypeVar("M", bound=BaseModel)


def read_job(body: Mapping[str, Any]) -> GreenJob | BadObject:
    """A GreenJob, or what is wrong with it."""
    job = _read(body, GreenJob)
    if isinstance(job, GreenJob):
        try:
            job.finish_by()
        except (ValueError, OverflowError) as e:
            return bad_object(body, "GreenJob", f"spec: {e}")
    return job


def read_objects(
    crons: Iterable[Mapping[str, Any]], regions: Iterable[Mapping[str, Any]]
) -> tuple[list[GreenCronJob], list[GreenRegion], list[BadObject]]:
    """Returns the objects that can be read, and those that cannot."""
    all_crons, all_regions = [_read(b, GreenCronJob) for b in crons], [_read(b, GreenRegion) for b in regions]
    bad = [o for o in (*all_crons, *all_regions) if isinstance(o, BadObject)]
    good_crons = [c for c in all_crons if not isinstance(c, BadObject)]
    return good_crons, [r for r in all_regions if not isinstance(r, BadObject)], bad


def _read(body: Mapping[str, Any], model: type[M]) -> M | BadObject:
    try:
        return model.model_validate(body)
    except ValidationError as e:
        return bad_object(body, model.__name__, "; ".join(sentences(e)))
    except Exception as e:  # whatever a foreign object holds harms itself only
        return bad_object(body, model.__name__, f"the object cannot be read: {e}")


def bad_object(body: Mapping[str, Any], kind: str, message: str) -> BadObject:
    """Returns an object that is left alone but for being told `message`."""
    metadata = body.get("metadata") or {}
    return BadObject(
        kind,
        str(metadata.get("namespace", "")),
        str(metadata.get("name", "")),
        int(metadata.get("generation") or 1),
        message[:1000],
        body.get("status") if isinstance(body.get("status"), Mapping) else {},  # type: ignore[arg-type]
        str(metadata.get("uid", "")),
    )
