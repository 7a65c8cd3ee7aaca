"""What a plan may believe of the coming hours: a day's issue with a nowcast, and a tail behind it, learned.

An experiment of the bench; the operator's own tail lives in `windward.forecasting`. The learned view starts from the
blended one's weights and moves away from them as far as the past days prove it (ridge towards a prior).
"""

from __future__ import annotations

import numpy as np
from bench.planner.online import World

_PAST_DAYS = 45


class Learned:
    """A view with memory; nothing after hour k is read for the view at k."""

    def __init__(self, strength: float = 200.0, step: int = 6) -> None:
        self.strength, self.step = strength, step
        self._features: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
        self._views: dict[int, np.ndarray] = {}
        self._iss: np.ndarray | None = None

    def __call__(self, w: World, k: int, horizon: int) -> np.ndarray:
        if k not in self._views:
            self._views[k] = np.array([self._one(w, z, k, horizon) for z in range(len(w.names))])
        return self._views[k]

    def _issued(self, w: World) -> np.ndarray:
        """(Z, H) the newest value issued for each hour, at its own issue."""
        if self._iss is None:
            out = np.full(w.actual.shape, np.nan)
            for k in range(w.actual.shape[1]):
                for z in range(len(w.names)):
                    if not np.isnan(w.issued[z, k, 0]):
                        n = min(24, w.actual.shape[1] - k)
                        out[z, k : k + n] = w.issued[z, k, :n]
            self._iss = out
        return self._iss

    def _end(self, w: World, z: int, k: int) -> int:
        for back in range(48):
            if k - back >= 0 and not np.isnan(w.issued[z, k - back, 0]):
                return k - back + 24
        return k

    def _head(self, w: World, z: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """issued values k.., their features, scale."""
        iss = self._issued(w)[z]
        end = min(self._end(w, z, k), len(iss))
        said = iss[k:end]
        i = np.arange(1, len(said) + 1)
        e = np.clip(w.actual[z, k - 1] / max(iss[k - 1], 1e-6) - 1.0, -0.5, 0.5) if not np.isnan(iss[k - 1]) else 0.0
        err = w.actual[z, :k] - iss[:k]
        at = np.arange(k, end)
        same = np.array([[err[t - 24 * d] if 0 <= t - 24 * d < k else np.nan for d in range(1, 9)] for t in at])
        same = same.reshape(len(at), 8)
        bias = np.nanmean(np.where(np.isnan(same), 0.0, same), axis=1) if len(at) else np.zeros(0)
        last = np.nan_to_num(same[:, 0]) if len(at) else np.zeros(0)
        recent = (
            np.nanmean(err[max(0, k - 24) : k]) if k > 24 and not np.all(np.isnan(err[max(0, k - 24) : k])) else 0.0
        )
        x = np.stack(
            [
                said * e * 0.95**i,
                said * e * 0.7**i,
                bias,
                last,
                np.full(len(at), recent),
                said - said.mean() if len(said) else said,
            ],
            axis=1,
        )
        return said, x, np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    def _tail(self, w: World, z: int, k: int, head: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray, float]:
        end = k + len(head)
        known = np.concatenate([w.actual[z, :k], head])
        level = float(known[max(0, k - 168) : k].mean())
        rows = []
        for t in range(end, k + horizon):
            c = (t - end) // 24 + 1
            days = [t - 24 * d for d in range(c, c + 7) if t - 24 * d >= 0]
            rows.append(
                [
                    known[t - 24 * c] - level,
                    known[days].mean() - level,
                    known[t - 168] - level if t >= 168 else 0.0,
                    known[-24:].mean() - level,
                    (known[-1] - known[-25]) * 0.9 ** (t - end) if len(known) > 25 else 0.0,
                    known[t - 24 * c - 24] - level if t - 24 * c - 24 >= 0 else 0.0,
                ]
            )
        return np.array(rows).reshape(-1, 6), np.array([0.35, 0.35, 0.0, 0.15, 0.0, 0.0]), level

    def _fit(self, x: np.ndarray, y: np.ndarray, prior: np.ndarray, scale: float) -> np.ndarray:
        if len(y) == 0:
            return prior
        left = y - x @ prior
        a = x.T @ x / scale**2 + self.strength * np.eye(x.shape[1])
        return prior + np.linalg.solve(a, x.T @ left / scale**2)

    def _past(self, k: int) -> range:
        return range(k - self.step, max(8 * 24, k - 24 * _PAST_DAYS), -self.step)

    def _one(self, w: World, z: int, k: int, horizon: int) -> np.ndarray:
        head = self._headed(w, z, k)
        x, prior, level = self._tail(w, z, k, head, horizon)
        xs: list[list[np.ndarray]] = [[], []]
        ys: list[list[np.ndarray]] = [[], []]
        for p in self._past(k):
            fx, fl, fe = self._remember(w, z, p, horizon)
            t = np.arange(fe, fe + len(fx))
            y = w.actual[z, fe : min(k, fe + len(fx))] - fl
            for half in (0, 1):
                pick = ((t[: len(y)] - fe) // 24 >= 1) == bool(half)
                xs[half].append(fx[: len(y)][pick])
                ys[half].append(y[pick])
        out = np.zeros(len(x))
        far = (np.arange(len(x)) // 24) >= 1
        scale = float(w.actual[z, max(0, k - 168) : k].std()) + 1e-9
        for half in (0, 1):
            beta = self._fit(
                np.concatenate(xs[half]) if xs[half] else x[:0],
                np.concatenate(ys[half]) if ys[half] else np.zeros(0),
                prior,
                scale,
            )
            mask = far == bool(half)
            out[mask] = x[mask] @ beta + level
        return np.maximum(0.0, np.concatenate([head, out])[:horizon])

    def _headed(self, w: World, z: int, k: int) -> np.ndarray:
        """Issued hours, corrected by what past errors taught."""
        key = (z, k)
        cache = self.__dict__.setdefault("_heads", {})
        if key in cache:
            return cache[key]
        said, x, prior = self._head(w, z, k)
        raw = self.__dict__.setdefault("_raw", {})
        xs, ys = [], []
        for p in self._past(k):
            if (z, p) not in raw:
                raw[z, p] = self._head(w, z, p)[:2]
            s, fx = raw[z, p]
            n = min(len(s), k - p)
            xs.append(fx[:n])
            ys.append(w.actual[z, p : p + n] - s[:n])
        scale = float(w.actual[z, max(0, k - 168) : k].std()) + 1e-9
        beta = self._fit(np.concatenate(xs) if xs else x[:0], np.concatenate(ys) if ys else np.zeros(0), prior, scale)
        cache[key] = np.maximum(0.0, said + x @ beta)
        return cache[key]

    def _remember(self, w: World, z: int, p: int, horizon: int) -> tuple[np.ndarray, float, int]:
        if (z, p) not in self._features:
            head = self._headed(w, z, p)
            x, _, level = self._tail(w, z, p, head, horizon)
            self._features[z, p] = (x, level, p + len(head))  # type: ignore[assignment]
        return self._features[z, p]  # type: ignore[return-value]
