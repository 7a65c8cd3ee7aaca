"""What the control plane tells a pod that answers requests: a cap on power, and the carbon intensity.

The intensity is the one number that travels into a pod (DESIGN.md, section 4). A run of a GreenJob gets that of its
window. It changes while a longer-lived pod runs: there it comes as a file, such as a key of a mounted ConfigMap, which
the kubelet replaces in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from windward_api.contract import ENV_INTENSITY_FILE, ENV_INTENSITY_G_PER_KWH, ENV_POWER_CAP_WATTS
from windward_worker.control import Refused
from windward_worker.inference.batch_policy import BatchPolicy, batch_policy_for

MAX_G_PER_KWH = 1e5  # beyond it is no intensity


@dataclass(frozen=True, slots=True)
class RuntimeSignals:
    """As told at the start; the file is read again at each `batch_policy`."""

    cap_w: float | None = None
    intensity_g_per_kwh: float | None = None  # where there is no file
    intensity_file: Path | None = None

    def intensity(self) -> float | None:
        """The present one; unknown where the file is missing or holds no plausible number."""
        if self.intensity_file is None:
            return self.intensity_g_per_kwh
        try:
            intensity = float(self.intensity_file.read_text("ascii"))
        except (OSError, ValueError):
            return None
        return intensity if 0 <= intensity < MAX_G_PER_KWH else None

    def batch_policy(self, *, draw_w: float, max_batch: int, max_wait_s: float) -> BatchPolicy:
        """The batch policy for the present; `draw_w` is the mean power of steps so far, 0 where unknown."""
        return batch_policy_for(
            intensity_g_per_kwh=self.intensity(),
            cap_w=self.cap_w,
            draw_w=draw_w,
            max_batch=max_batch,
            max_wait_s=max_wait_s,
        )


def read_signals(
    environ: Mapping[str, str],
    *,
    cap_w: float | None = None,
    intensity_g_per_kwh: float | None = None,
    intensity_file: Path | None = None,
) -> RuntimeSignals:
    """From the contract's environment, and what a command line adds: of two caps the lower holds, its file goes first.

    Raises Refused for a cap that is no power, and an intensity that is none.
    """
    if text := environ.get(ENV_POWER_CAP_WATTS, ""):
        environ_cap_w = _watts(text)
        cap_w = environ_cap_w if cap_w is None else min(cap_w, environ_cap_w)
    if intensity_file is None and intensity_g_per_kwh is None and environ.get(ENV_INTENSITY_FILE):
        intensity_file = Path(environ[ENV_INTENSITY_FILE])
    elif intensity_file is None and intensity_g_per_kwh is None and (text := environ.get(ENV_INTENSITY_G_PER_KWH, "")):
        intensity_g_per_kwh = _intensity(text)
    return RuntimeSignals(cap_w, intensity_g_per_kwh, intensity_file)


def _intensity(text: str) -> float:
    """Raises Refused."""
    try:
        grams = float(text)
    except ValueError:
        grams = math.nan
    if not 0 <= grams < MAX_G_PER_KWH:
        raise Refused(f"{ENV_INTENSITY_G_PER_KWH}={text!r} is no plausible intensity; give g CO2e per kWh, such as 350")
    return grams


def _watts(text: str) -> float:
    """Raises Refused."""
    try:
        watts = float(text)
    except ValueError:
        watts = math.nan
    if not 0 < watts < 1e7:
        raise Refused(f"{ENV_POWER_CAP_WATTS}={text!r} is no plausible power; give watts, such as 350")
    return watts
