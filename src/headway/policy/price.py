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
from math import exp2, inf

WINDOW_S = 3.0
BIDS_MAX = 512
BIDS_MIN = 16
"""With fewer bids in the window there is no price."""
UTILISATION = 0.75
"""How much of the time is taken to be there for them: what was offered is a sample, and what comes may be more."""
REFRESH_S = 0.02
LOTS_MAX = 8192
QUIET_HALF_S = 60.0
"""In this time the memory of how much work comes at once from tenants within their share fades to half."""


@dataclass(frozen=True, slots=True)
class Bid:
    """A request that has come: what it is worth, and the work of its prompt, in tokens."""

    at_s: float
    tenant: str
    value: float
    work: float


class BidPrice:
    """Follows what is bid for, and says what is too dear."""

    def __init__(self, *, fair: bool = False) -> None:
        self._fair = fair
        self._bids: deque[Bid] = deque(maxlen=BIDS_MAX)
        self._limits: Mapping[str, float] = {}  # by tenant: the most work per value that is taken
        self._shares: Mapping[str, float] = {}  # by tenant: what share of its work can be done
        self._lots: dict[tuple[str, int], float] = {}
        self._tenants = 0
        self._priced_s = -inf
        self._quiet_work = 0.0
        self._quiet_s = 0.0
        self.load = 0.0
        """Work bid for lately over what can be done: above 1, somebody has to be refused."""

    def offer(self, bid: Bid, work_per_s: float) -> bool:
        """Whether there is a place for it, as far as the price goes, on a machine that works off so much a second."""
        self._bids.append(bid)
        if bid.at_s - self._priced_s >= REFRESH_S:
            self._reprice(bid.at_s, work_per_s)
        if not self.crowds(bid.tenant):
            self._quiet_work, self._quiet_s = max(bid.work, self.quiet_work(bid.at_s)), bid.at_s
        if self._fair:
            return self._draw_lot(bid)
        return bid.work <= self._limits.get(bid.tenant, inf) * bid.value

    def crowds(self, tenant: str) -> bool:
        """Whether a tenant lately asked for more than its share, and is not alone."""
        return tenant in self._limits and self._tenants > 1

    def quiet_work(self, now: float) -> float:
        """The most work that a tenant within its share has lately come with."""
        return self._quiet_work * exp2((self._quiet_s - now) / QUIET_HALF_S)

    def load_at(self, now: float) -> float:
        """``load``, or 0 if nobody has come since it was true."""
        return self.load if self._bids and now - self._bids[-1].at_s < WINDOW_S else 0.0

    def _reprice(self, now: float, work_per_s: float) -> None:
        self._priced_s = now
        bids = self._bids
        while bids[0].at_s < now - WINDOW_S:
            bids.popleft()
        self._limits, self._shares, self.load = {}, {}, 0.0
        if len(bids) < BIDS_MIN:
            self._lots.clear()
            return
        span_s = WINDOW_S if len(bids) < BIDS_MAX else now - bids[0].at_s
        room = UTILISATION * work_per_s * span_s
        by_tenant: dict[str, list[Bid]] = {}
        for each in bids:
            by_tenant.setdefault(each.tenant, []).append(each)
        demand = {tenant: sum(bid.work for bid in theirs) for tenant, theirs in by_tenant.items()}
        self._tenants = len(demand)
        total = sum(demand.values())
        self.load = total / room
        if total <= room:
            self._lots.clear()
            return
        shares = _max_min(demand, room)
        self._shares = {tenant: shares[tenant] / demand[tenant] for tenant in demand}
        self._limits = {
            tenant: _limit(by_tenant[tenant], share) for tenant, share in shares.items() if share < demand[tenant]
        }

    def _draw_lot(self, bid: Bid) -> bool:
        share = self._shares.get(bid.tenant, 1.0)
        if share >= 1.0:
            return True
        if len(self._lots) > LOTS_MAX:
            self._lots.clear()
        key = bid.tenant, int(bid.work).bit_length()
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


def _limit(bids: list[Bid], room: float) -> float:
    """The work per value up to which all bids together fit the room."""
    limit = 0.0
    for each in sorted(bids, key=lambda bid: bid.work / bid.value):
        room -= each.work
        limit = each.work / each.value
        if room < 0.0:
            break
    return limit
