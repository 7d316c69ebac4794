"""Whether the client measured the server or itself, and by which limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headway.bench.figures import ClientHealth
from headway.bench.record import Outcome, Record
from headway.bench.statistics import nearest_rank
from headway.policy.slo import Objective

SLIP_TARGET_SHARE = 0.1
"""Of the tightest TTFT promised: how late the requests may be sent, at p99."""
SLIP_MAX_S = 0.1
"""The same where no TTFT is promised, and never more."""
LAG_TARGET_SHARE = 0.2
"""Of the tightest ITL promised: how late the event loop may wake up, at p99."""
LAG_LEAST_S = 0.01
"""Whatever is promised, so much may be: the time slice of a system where something else runs. It is a p99, and p95 is
not moved by what happens to one event in a hundred."""
LAG_MAX_S = 0.05
"""The same where no ITL is promised, and never more."""
CPU_SHARE_MAX = 0.9
"""Of one core for the busiest process: above, bursts wait in the client."""


def client_health(
    records: Sequence[Record],
    *,
    cpu_s: Sequence[float],
    elapsed_s: float,
    lag_p99_s: float,
    lag_max_s: float,
    tokens: int,
    objectives: Iterable[Objective] = (),
) -> ClientHealth:
    """``cpu_s``: processor time of each process in the ``elapsed_s`` of the load; the lags are of the worst of them.

    How long a server takes to accept a connection is no slip, and that of a request that got none does not count. One
    that waited for its turn because too many were under way does: it was not sent as it was to be.
    """
    sent = [each for each in records if each.outcome not in (Outcome.CONNECT, Outcome.CLIENT)]
    slips_s = sorted(max(0.0, each.slip_s - each.connect_s) for each in sent) or [0.0]
    health = ClientHealth(
        processes=max(1, len(cpu_s)),
        slip_p50_s=nearest_rank(slips_s, 0.5),
        slip_p99_s=nearest_rank(slips_s, 0.99),
        slip_max_s=slips_s[-1],
        lag_p99_s=lag_p99_s,
        lag_max_s=lag_max_s,
        cpu_s=sum(cpu_s),
        cpu_share=max(cpu_s, default=0.0) / elapsed_s if elapsed_s > 0.0 else 0.0,
        cpu_us_per_token=sum(cpu_s) / tokens * 1e6 if tokens else None,
    )
    out_of_sockets = sum(each.outcome is Outcome.CLIENT for each in records)
    health.bound = _bound(health, list(objectives), out_of_sockets)
    return health


def _bound(health: ClientHealth, objectives: Sequence[Objective], out_of_sockets: int) -> str | None:
    ttfts_s = [each.ttft_s for each in objectives if each.ttft_s is not None]
    itls_s = [each.itl_s for each in objectives if each.itl_s is not None]
    slip_limit_s = min([SLIP_MAX_S, *(SLIP_TARGET_SHARE * each for each in ttfts_s)])
    lag_limit_s = min([LAG_MAX_S, *(max(LAG_LEAST_S, LAG_TARGET_SHARE * each) for each in itls_s)])
    reasons = [f"{out_of_sockets} requests found no free socket on this machine"] if out_of_sockets else []
    if health.slip_p99_s > slip_limit_s:
        reasons.append(f"requests were sent late: p99 {_ms(health.slip_p99_s)}, limit {_ms(slip_limit_s)}")
    if health.lag_p99_s > lag_limit_s:
        reasons.append(f"the client's event loop lagged: p99 {_ms(health.lag_p99_s)}, limit {_ms(lag_limit_s)}")
    if health.cpu_share > CPU_SHARE_MAX:
        reasons.append(f"a client process used {health.cpu_share:.0%} of a core, limit {CPU_SHARE_MAX:.0%}")
    return "; ".join(reasons) or None


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
