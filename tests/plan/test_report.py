"""The page of a plan: what it says, and that nothing in it is markup of others."""

from __future__ import annotations

import json
import re

import msgspec

from headway.plan.report.page import plan_page
from tests.plan.made_plan import MACHINES, made_plan


def test_the_answer_comes_first_with_cost_and_room() -> None:
    page = plan_page(made_plan())
    assert "2 x h100-sxm, bf16 keeps the promise, $5.90 an hour" in page
    assert "It fits until 23 requests a second (19.8 to 25.8 with the model&#39;s error)" in page
    assert page.index("keeps the promise, $5.90") < page.index("Set-ups that keep the promise")


def test_every_option_says_how_far_to_trust_it_and_where_its_band_is_from() -> None:
    page = plan_page(made_plan())
    assert page.count("\u221214 % to +18 %") >= len(MACHINES)
    assert "measured points of dense models on NVLink, n 214" in page
    assert "nobody has measured its matrix products" in page


def test_a_plan_without_an_answer_says_what_comes_closest() -> None:
    page = plan_page(made_plan((), best_effort="16 x h100-sxm keep it until 11 requests a second."))
    assert "Nothing that was considered keeps the promise" in page
    assert "16 x h100-sxm keep it until 11 requests a second." in page
    assert "does not fit" in page


def test_charts_hold_every_load_that_was_tried() -> None:
    page = plan_page(made_plan())
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    titles = [each["title"] for each in charts]
    assert titles == [
        "What a GPU gives, and what a user gets",
        "In SLO, as the load grows",
        "p95 TTFT, as the load grows",
        "p95 ITL, as the load grows",
    ]
    attainment = charts[1]
    assert len(attainment["x_values"]) == 5 * len(MACHINES)
    assert all(sum(value is not None for value in each["values"]) == 5 for each in attainment["series"])


def test_names_of_others_are_text() -> None:
    plan = made_plan()
    odd = msgspec.structs.replace(plan.asked.load, description="<script>alert(1)</script>")
    page = plan_page(msgspec.structs.replace(plan, asked=msgspec.structs.replace(plan.asked, load=odd)))
    assert "<script>alert" not in page
