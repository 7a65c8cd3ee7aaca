"""From a cloud region to its grid."""

from __future__ import annotations

import yaml

from windward.grid.cloud_regions import cloud_regions
from windward.grid.port import ZONE_PATTERN
from windward_api.greenregion import GreenRegion


def test_the_table_is_whole_and_what_it_does_not_know_stays_unknown():
    regions = cloud_regions()
    assert len(regions) == 103 and len({r.name for r in regions}) == 103
    assert sum(not r.zone for r in regions) == 9
    assert sum(not r.watttime_region for r in regions) == 5
    assert sum(r.pue is None for r in regions) == 41
    assert all(ZONE_PATTERN.fullmatch(r.zone) for r in regions if r.zone)
    assert all(1.0 <= r.pue <= 2.0 and r.pue_year for r in regions if r.pue is not None)


def test_a_region_a_place_and_a_zone_are_all_found(windward):
    assert "US-MIDA-PJM" in windward("zones", "search", "us-east-1").out
    assert "eu-central-1" in windward("zones", "search", "frankfurt").out
    assert "Frankfurt" in windward("zones", "search", "aws", "DE").out
    assert len(windward("zones", "search", "-o", "json").json()["items"]) == 103


def test_manifests_can_be_applied_as_they_are(windward):
    said = windward("zones", "search", "aws", "-o", "yaml")
    made = [GreenRegion.model_validate(d) for d in yaml.safe_load_all(said.out)]
    assert len(made) == sum(1 for r in cloud_regions() if r.provider == "aws" and r.zone)
    north = next(r for r in made if r.metadata.name == "eu-north-1")
    assert str(north.spec.pue) == "1.1" and north.spec.node_selector["topology.kubernetes.io/region"] == "eu-north-1"
    assert all(r.metadata.annotations["windward.dev/source"] for r in made)


def test_nothing_found_is_named_with_what_is_near(windward):
    said = windward("zones", "search", "us-eest-1")
    assert said.code == 4 and "us-east-1" in said.err
