"""Rules that the API server checks by CEL: each sentence names the field and says what to do.

The models refuse the same things with the same sentences, so that a laptop and a cluster agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from windward_api import greencronjob, greenjob, greenregion, schedule
from windward_api.kinds import KINDS, ONE_WORK


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule at `path` (property names from the object's root; empty: the root itself)."""

    path: str
    cel: str
    message: str
    field_path: str = ""


def _job_rules(at: str, *, window: bool) -> list[Rule]:
    """Rules of a GreenJob spec that stands at `at`; in a GreenCronJob's template the finish-by is the window's end."""
    finish = (
        Rule(at, "!has(self.completeWithin) && !has(self.deadline)", greencronjob.NO_FINISH)
        if window
        else Rule(at, "has(self.completeWithin) != has(self.deadline)", greenjob.ONE_FINISH)
    )
    return [
        finish,
        *_duration_rules(at, named=window),
        Rule(at, f"[{', '.join(f'has(self.{k.field})' for k in KINDS)}].filter(x, x).size() == 1", ONE_WORK),
        Rule(f"{at}.placement", "has(self.home) || self.regions.size() == 1", greenjob.HOME_NEEDED),
        Rule(f"{at}.placement", "!has(self.home) || self.home in self.regions", greenjob.HOME_KNOWN, ".home"),
        Rule(
            f"{at}.interruption",
            "!has(self.overhead) || self.policy != 'Never'",
            greenjob.OVERHEAD_USED,
            ".overhead",
        ),
        Rule(f"{at}.power", "!has(self.capWatts) || self.capWatts >= self.watts", greenjob.CAP_ABOVE, ".capWatts"),
        *_power_rules(at),
        Rule(
            f"{at}.power",
            "!has(self.levels) || self.levels.all(l, !has(l.capWatts) || l.capWatts >= l.watts)",
            greenjob.LEVEL_CAP_ABOVE,
            ".levels",
        ),
        *_storage_rules(at),
        *(Rule(f"{at}.{k.field}{p.part}", p.cel, p.sentence) for k in KINDS for p in k.parts),
    ]


def _storage_rules(at: str) -> list[Rule]:
    """Rules on where checkpoints live."""
    no_store = "!has(self.storage) || !has(self.storage.uri)"
    storage, no_uri = f"{at}.storage", "!has(self.uri)"
    remote = "(has(self.uri) && !self.uri.startsWith('file:'))"
    return [
        Rule(storage, "has(self.claimName) != has(self.uri)", greenjob.ONE_STORAGE),
        Rule(storage, f"{no_uri} || !self.uri.contains('@')", greenjob.URI_BARE, ".uri"),
        Rule(storage, f"{no_uri} || self.uri.matches({_cel(greenjob.URI_PATTERN)})", greenjob.URI_SHAPE, ".uri"),
        Rule(storage, f"!has(self.credentialsSecret) || {remote}", greenjob.CREDENTIALS_USED, ".credentialsSecret"),
        *(Rule(at, f"!has(self.{k.field}) || {no_store}", k.uri_refused, ".storage") for k in KINDS if k.uri_refused),
    ]


def _duration_rules(at: str, *, named: bool) -> list[Rule]:
    """Rules on the duration, which may be left out where past runs say it.

    Args:
        named: whether the object's own name stands for a profile.
    """
    both = "!has(self.duration) || !has(self.durationP90)"
    known = [] if named else [Rule(at, "has(self.duration) || has(self.profile)", greenjob.DURATION_OR_PROFILE)]
    latest = "!has(self.policy) || !has(self.policy.fallback) || self.policy.fallback != 'RunAtLatest'"
    return [
        *known,
        Rule(at, f"has(self.duration) || {latest}", greenjob.LATEST_NEEDS_DURATION, ".policy"),
        Rule(at, "has(self.duration) || !has(self.durationP90)", greenjob.P90_NEEDS_DURATION, ".durationP90"),
        Rule(at, f"has(self.duration) || {_no_levels()}", greenjob.LEVELS_NEED_DURATION, ".power"),
        Rule(
            at,
            f"{both} || {_not_longer('self.duration', 'self.durationP90')}",
            greenjob.P90_LONGER,
            ".durationP90",
        ),
    ]


def _power_rules(at: str) -> list[Rule]:
    """Rules on cap and levels that follow from the kind of work."""
    no_cap, each_capped = "!has(self.power) || !has(self.power.capWatts)", "self.power.levels.all(l, has(l.capWatts))"
    rules = (
        *((k, no_cap, k.cap_refused) for k in KINDS),
        *((k, _no_levels(), k.levels_refused) for k in KINDS),
        *((k, f"{_no_levels()} || {each_capped}", k.levels_capped) for k in KINDS),
    )
    return [Rule(at, f"!has(self.{k.field}) || {cel}", sentence, ".power") for k, cel, sentence in rules if sentence]


def _no_levels() -> str:
    return "!has(self.power) || !has(self.power.levels) || self.power.levels.size() == 0"


def _not_longer(a: str, b: str) -> str:
    """CEL: duration `a` is not longer than `b`; pairs with days are left to the operator (CEL knows no days)."""
    return f"{a}.contains('d') || {b}.contains('d') || duration({a}) <= duration({b})"


def _cel(pattern: str) -> str:
    """A regular expression as a CEL string, which reads escapes itself."""
    return "'" + pattern.replace("\\", "\\\\") + "'"


GREENJOB = [
    *_job_rules("spec", window=False),
    Rule(
        "spec",
        f"!has(self.duration) || !has(self.completeWithin) || {_not_longer('self.duration', 'self.completeWithin')}",
        greenjob.LONG_ENOUGH,
        ".duration",
    ),
]
# The API server checks the form of a schedule; the numbers in its fields are the model's.
_FORM = (
    r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|@every [0-9.a-zµμ]+"
    r"|\s*[0-9A-Za-z*?,/+-]+(\s+[0-9A-Za-z*?,/+-]+){4}\s*)$"
)
_SHORT_MONTH = "(2|02|4|04|6|06|9|09|11|[Ff][Ee][Bb]|[Aa][Pp][Rr]|[Jj][Uu][Nn]|[Ss][Ee][Pp]|[Nn][Oo][Vv])"
_NO_DAY = (
    rf"^\s*\S+\s+\S+\s+(31(,31)*\s+{_SHORT_MONTH}(,{_SHORT_MONTH})*"
    r"|(30|31|30-31)(,(30|31))*\s+(0?2|[Ff][Ee][Bb]))\s+[*?]\s*$"
)
_FOLDERS = (
    "Africa", "America", "America/Argentina", "America/Indiana", "America/Kentucky", "America/North_Dakota",
    "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Brazil", "Canada", "Chile", "Etc", "Europe", "Indian",
    "Local", "Mexico", "Pacific", "US", "localtime",
)  # fmt: skip
GREENCRONJOB = [
    Rule("spec", "!self.schedule.contains('TZ')", schedule.NO_ZONE_INSIDE, ".schedule"),
    Rule("spec", f"self.schedule.contains('TZ') || self.schedule.matches({_cel(_FORM)})", schedule.SHAPE, ".schedule"),
    Rule("spec", f"!self.schedule.matches({_cel(_NO_DAY)})", schedule.NEVER_FIRES, ".schedule"),
    Rule(
        "spec",
        f"self.timeZone.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$') && !(self.timeZone in {list(_FOLDERS)})",
        schedule.ZONE_KNOWN,
        ".timeZone",
    ),
    *_job_rules("spec.jobTemplate.spec", window=True),
    Rule(
        "spec",
        f"!has(self.jobTemplate.spec.duration) || {_not_longer('self.jobTemplate.spec.duration', 'self.window')}",
        greencronjob.WINDOW_FITS,
        ".window",
    ),
]
GREENREGION: list[Rule] = [
    Rule("", "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')", greenregion.NAME_SHORT),
    Rule(
        "spec",
        "!has(self.pue) || (double(string(self.pue)) >= 1.0 && double(string(self.pue)) <= 3.0)",
        greenregion.PUE_PLAUSIBLE,
        ".pue",
    ),
    Rule(
        "spec.onSite",
        "self.hours.all(a, a.fromHour < a.toHour && "
        "self.hours.all(b, a.fromHour == b.fromHour || a.toHour <= b.fromHour || b.toHour <= a.fromHour))",
        greenregion.HOURS_APART,
        ".hours",
    ),
]
