"""What a place costs when not all can have one: a bid price on the work a request brings, by what was offered lately.

While less is offered than can be done, there is no price. Past that, taking whoever comes first and fits fills the
machine with whatever came first; counting requests, it is best to take the small ones. So the offers of the last
moments are put in order of work per value, and the price is where as many of them as can be done end. It is known
the moment a request comes, so its answer is final at once. Source: bid prices of network revenue management (Talluri
and van Ryzin, Management Science 44(11), 1998), here for one resource.

Tenants. What can be done is shared among the tenants seen lately, max-min fair, and each has its own price: who asks
for no more than its share pays none, whatever others ask for.

Fair. With ``fair``, length does not count: the same share of each length is taken, small and large alike (by a
counter for each power of two, no chance in it). It serves fewer requests; docs/policy.md says how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

WINDOW_S = 3.0
OFFERS_MAX = 512
OFFERS_MIN = 16
"""With fewer offers in the window there is no price."""
UTILISATION = 0.8
"""How much of the time is taken to be there for prompts: what was offered is a sample, and what comes may be more."""
REFRESH_S = 0.02


@dataclass(frozen=True, slots=True)
class _Offer:
    at_s: float
    tenant: str
    work_s: float
    value: float


class BidPrice:
    """Follows what is offered, and says what is too dear. Work is in seconds of the machine."""

    def __init__(self, *, fair: bool = False) -> None:
        self._fair = fair
        self._offers: deque[_Offer] = deque(maxlen=OFFERS_MAX)
        self._limits: Mapping[str, float] = {}  # by tenant: the most work per value that is taken
        self._shares: Mapping[str, float] = {}  # by tenant: what share of its work can be done
        self._lots: dict[tuple[str, int], float] = {}
        self._priced_s = -inf
        self.load = 0.0
        """Work offered lately over what can be done: above 1, somebody has to be refused."""

    def offer(self, now: float, tenant: str, work_s: float, value: float) -> bool:
        """A request has come that brings so much work. Whether there is a place for it, as far as the price goes."""
        self._offers.append(_Offer(now, tenant, work_s, value))
        if now - self._priced_s >= REFRESH_S:
            self._reprice(now)
        if self._fair:
            return self._draw_lot(tenant, work_s)
        return work_s <= self._limits.get(tenant, inf) * value

    def _reprice(self, now: float) -> None:
        self._priced_s = now
        offers = self._offers
        while offers[0].at_s < now - WINDOW_S:
            offers.popleft()
        self._limits, self._shares, self.load = {}, {}, 0.0
        if len(offers) < OFFERS_MIN:
            self._lots.clear()
            return
        span_s = WINDOW_S if len(offers) < OFFERS_MAX else now - offers[0].at_s
        room_s = UTILISATION * span_s
        demand: dict[str, float] = {}
        for each in offers:
            demand[each.tenant] = demand.get(each.tenant, 0.0) + each.work_s
        total_s = sum(demand.values())
        self.load = total_s / room_s
        if total_s <= room_s:
            self._lots.clear()
            return
        shares = _max_min(demand, room_s)
        self._shares = {tenant: shares[tenant] / demand[tenant] for tenant in demand}
        self._limits = {
            tenant: _limit([each for each in offers if each.tenant == tenant], share)
            for tenant, share in shares.items()
            if share < demand[tenant]
        }

    def _draw_lot(self, tenant: str, work_s: float) -> bool:
        share = self._shares.get(tenant, 1.0)
        if share >= 1.0:
            return True
        key = tenant, int(work_s * 1000.0).bit_length()
        lot = self._lots.get(key, 0.5) + share
        taken = lot >= 1.0
        self._lots[key] = lot - taken
        return taken


def _max_min(demand: Mapping[str, float], room: float) -> dict[str, float]:
    """Everybody gets what they ask for or an equal share, whichever is less, and the last ones what is left."""
    shares: dict[str, float] = {}
    left = len(demand)
    for tenant in sorted(demand, key=lambda name: (demand[name], name)):
        shares[tenant] = min(demand[tenant], room / left)
        room -= shares[tenant]
        left -= 1
    return shares


def _limit(offers: list[_Offer], room: float) -> float:
    """The work per value up to which all offers together fit the room."""
    limit = 0.0
    for each in sorted(offers, key=lambda offer: offer.work_s / offer.value):
        room -= each.work_s
        limit = each.work_s / each.value
        if room < 0.0:
            break
    return limit
