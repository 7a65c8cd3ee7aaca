"""Several providers in the order of trust: the next one answers where the one before cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from windward.domain.series import Kind, MixedKinds, Series
from windward.grid.port import Provider, ProviderError


class FirstOf:
    """The first provider that answers.

    A fallback that counts something else (marginal for average, direct for life-cycle) is another quantity, not a
    worse measurement. It is refused unless the administrator declares it; then the series says what it is, and
    `Forecast.detail` and the plan's record carry it.

    Raises:
        MixedKinds: at construction, where kinds differ and `across_kinds` is not declared.
    """

    def __init__(self, providers: Sequence[Provider], *, across_kinds: bool = False) -> None:
        if not providers:
            raise ValueError("no provider is named")
        kinds = {p.kind for p in providers}
        if len(kinds) > 1 and not across_kinds:
            names = ", ".join(f"{p.name} ({p.kind})" for p in providers)
            raise MixedKinds(
                f"these count different things: {names}; declare the fallback across kinds, or name one kind"
            )
        self._providers = tuple(providers)
        self.name = "+".join(p.name for p in providers)
        self.kind: Kind = providers[0].kind
        self.revised_for = max(p.revised_for for p in providers)

    def zones(self) -> tuple[str, ...] | None:
        known = [p.zones() for p in self._providers]
        if any(z is None for z in known):
            return None
        return tuple(dict.fromkeys(z for zones in known for z in zones or ()))

    def issue(self, zone: str, now: datetime) -> Series:
        return self._ask(lambda p: p.issue(zone, now))

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """History comes from whoever answers first, too: a plan and its account rest on the same kind."""
        return self._ask(lambda p: p.history(zone, start, end))

    def _ask(self, ask: Callable[[Provider], Series]) -> Series:
        first: ProviderError | None = None
        for provider in self._providers:
            try:
                return ask(provider)
            except ProviderError as error:
                first = first or error
        assert first is not None
        raise first
