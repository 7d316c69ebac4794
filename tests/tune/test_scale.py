import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.tune.scale import Scale, batch_rungs

BATCH = Scale()
RATE = Scale(grain=0.1, whole=False)


def test_the_climb_goes_by_two_then_by_four_then_doubles_and_ends_with_the_most() -> None:
    assert batch_rungs(100) == [1, 2, 4, 6, 8, 12, 16, 32, 64, 100]
    assert batch_rungs(16) == [1, 2, 4, 6, 8, 12, 16]
    assert batch_rungs(1) == [1]


@given(st.floats(0.01, 1e6))
def test_a_position_is_that_of_one_load(load: float) -> None:
    assert BATCH.load(BATCH.position(load)) == pytest.approx(load)
    assert RATE.load(RATE.position(load)) == pytest.approx(load)


def test_a_unit_is_one_request_for_small_batches_and_the_tolerance_for_large_ones() -> None:
    assert BATCH.position(8) - BATCH.position(7) == pytest.approx(1.0)
    assert BATCH.position(105) - BATCH.position(100) == pytest.approx(1.0)


@pytest.mark.parametrize("low", [1, 5, 19, 20, 21, 99, 101, 400])
def test_neighbours_are_near_and_no_load_lies_between_them_that_matters(low: int) -> None:
    above = BATCH.last_near(low)
    assert above > low
    assert BATCH.is_near(low, above)
    assert not BATCH.is_near(low, above + 1)
    below = BATCH.first_near(above)
    assert low <= below < above


@given(st.integers(0, 300), st.integers(1, 300), st.floats(0, 600), st.integers(1, 12), st.data())
def test_halving_from_any_chosen_load_ends_within_the_probes(
    low: int, width: int, wanted: float, probes: int, data: st.DataObject
) -> None:
    high = low + width
    units, load = 0, float(low)
    while load < high:
        units, load = units + 1, BATCH.last_near(load)
    if units > 2**probes:
        return
    bounds = (float(low), float(high))
    while not BATCH.is_near(*bounds):
        assert probes > 0
        chosen = BATCH.between(*bounds, wanted, probes)
        assert chosen is not None
        assert bounds[0] < chosen < bounds[1]
        bounds = (chosen, bounds[1]) if data.draw(st.booleans()) else (bounds[0], chosen)
        probes -= 1


def test_there_is_no_whole_load_between_neighbours() -> None:
    assert BATCH.between(7, 8, 7.5, 5) is None
