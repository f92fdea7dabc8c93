"""The confidence of an action: mapped to how often such actions are right, and used as a threshold."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_agent_ros.agent import UNSURE, Agent
from nano_agent_ros.decode.confidence import FILE, FORMAT, Confidence, logit
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import default_model
from training.calibrate import Pair, calibration_error, cross_validated, fit, reliability

probability = st.floats(0, 1)


@given(p=probability)
def test_without_a_file_confidence_is_the_probability_itself(p, tmp_path_factory):
    assert Confidence.load(tmp_path_factory.getbasetemp())(p) == p


@given(p=probability, q=probability, scale=st.floats(0.01, 1e6), offset=st.floats(-1e9, 1e9))
def test_confidence_is_a_probability_and_keeps_the_order(p, q, scale, offset):
    mapping = Confidence(scale, offset)
    assert 0 <= mapping(p) <= 1
    if p <= q:
        assert mapping(p) <= mapping(q) + 1e-12


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "other", "scale": 1, "offset": 0}',
        f'{{"format": "{FORMAT}", "scale": "x", "offset": 0}}',
    ]
    + [
        f'{{"format": "{FORMAT}", "scale": {s}, "offset": {o}}}'
        for s, o in ((0, 0), (-1, 0), ("NaN", 0), (1, "Infinity"))
    ],
)
def test_a_file_that_is_no_mapping_is_refused_by_name(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match="confidence.json"):
        Confidence.load(tmp_path)


def observed(scale, offset, count=4000):
    """Actions whose chance of being right is a known function of their confidence."""
    rng = np.random.default_rng(7)
    raw = rng.beta(4, 1, count)
    truth = Confidence(scale, offset)
    return [Pair(float(p), bool(rng.random() < truth(p))) for p in raw]


@pytest.mark.parametrize("scale, offset", [(1.0, 0.0), (0.5, -1.0), (2.0, 0.5)])
def test_a_fit_finds_the_mapping_that_made_the_data(scale, offset):
    found = fit(observed(scale, offset))
    for p in (0.3, 0.6, 0.9, 0.97):
        assert found(p) == pytest.approx(Confidence(scale, offset)(p), abs=0.05)


def test_cross_validated_confidence_is_honest_where_the_raw_one_is_not():
    raw = observed(0.5, -1.5)
    assert calibration_error(raw) > 0.15
    assert calibration_error(cross_validated(raw)) < 0.05


def test_a_fit_of_actions_that_are_all_right_or_all_wrong_stays_finite():
    for right in (True, False):
        mapping = fit([Pair(0.9, right)] * 60)
        assert np.isfinite([mapping.scale, mapping.offset]).all()
        assert (mapping(0.9) > 0.5) is right


def test_reliability_bins_hold_every_action_once():
    bins = reliability(observed(1, 0, 137))
    assert sum(b.count for b in bins) == 137
    assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)


def test_the_agent_asks_back_when_such_actions_are_seldom_right(tmp_path):
    model = shutil.copytree(default_model(), tmp_path / "model")
    said = "go to dock two"
    assert Agent.open(model).hear(said).kind == "act"
    (model / FILE).write_text(json.dumps({"format": FORMAT, "scale": 1.0, "offset": -30.0}))
    turn = Agent.open(model).hear(said)
    assert (turn.kind, turn.reply, turn.actions) == ("clarify", UNSURE, ())


def test_odds_of_certainty_are_finite():
    assert np.isfinite([logit(0.0), logit(1.0)]).all()
    assert logit(0.0) == pytest.approx(-logit(1.0))
