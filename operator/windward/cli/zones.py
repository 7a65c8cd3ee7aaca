"""`windward zones search`: from the name of a cloud region or a place to a grid zone, and to a GreenRegion."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import yaml

from windward.cli import text
from windward.cli.errors import CliError, Exit
from windward.grid.cloud_regions import SOURCE, UNKNOWN_SITE_PUE, CloudRegion, cloud_regions, search


def zones_search(words: str, output: str) -> None:
    """Print what matches; nothing is an error with near names."""
    matches = search(words)
    if not matches:
        from difflib import get_close_matches

        names = [r.region for r in cloud_regions()] + [r.zone for r in cloud_regions() if r.zone]
        near = ", ".join(dict.fromkeys(get_close_matches(words, names, 3, 0.5)))
        fix = f"did you mean {near}?" if near else "all of them: windward zones search"
        raise CliError(f"no cloud region matches {words!r}", fix=fix, code=Exit.NOT_FOUND)
    if output == "json":
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "CloudRegionList", "source": SOURCE,
                          "items": [asdict(r) for r in matches]}, indent=2))  # fmt: skip
    elif output == "yaml":
        print("---\n".join(yaml.safe_dump(manifest(r), sort_keys=False) for r in matches if r.zone), end="")
    else:
        rows = [["PROVIDER", "REGION", "PLACE", "ZONE", "WATTTIME", "PUE", "YEAR"]]
        rows += [
            [r.provider, r.region, r.location, r.zone or "unknown", r.watttime_region or "unknown",
             "unknown" if r.pue is None else f"{r.pue:g}", "" if r.pue_year is None else str(r.pue_year)]
            for r in matches
        ]  # fmt: skip
        print(text.table(rows, right=(5, 6)))
        print(text.lines([f"source: {SOURCE}; a mapping is a claim: check it. As manifests: -o yaml"]))


def manifest(region: CloudRegion) -> dict[str, Any]:
    """A GreenRegion to start from; an unknown PUE is the cautious value for an unknown site, and says so."""
    known = region.pue is not None
    note = f"{SOURCE}, PUE {'of ' + str(region.pue_year) if known else 'unknown: a cautious value for an unknown site'}"
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenRegion",
        "metadata": {
            "name": re.sub(r"[^a-z0-9-]+", "-", region.region.lower()).strip("-"),
            "annotations": {"windward.dev/source": note},
        },
        "spec": {
            "gridZone": region.zone,
            "pue": f"{region.pue:g}" if known else UNKNOWN_SITE_PUE,
            "nodeSelector": {"topology.kubernetes.io/region": region.region},
        },
    }
