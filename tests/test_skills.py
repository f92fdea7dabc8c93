"""Claims about skills and site: what loads, what is refused, and that grounding fails closed."""

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, GroundingError, Site, Skills, checked, ground, unheard, was_heard
from nano_agent_ros.skills.quantities import UNITS, to_si

SKILLS = Skills.load(default_skills())
SITE = Site.load("warehouse")


def test_the_files_that_ship_load():
    assert {"navigate_to", "pick", "bring", "report_defect", "stop"} <= {s.name for s in SKILLS}
    assert SITE.locations["dock_3"].pose == (10.0, 1.0, -1.57)
    assert "speaker" in SITE.people
    assert "loading dock three" in SITE.aliases()


@pytest.mark.parametrize(
    "text, quantity, si",
    [
        ("2 min", "duration", 120),
        ("1.5 h", "duration", 5400),
        ("30 cm", "distance", 0.3),
        ("90 deg", "angle", math.pi / 2),
        ("50 %", "speed", 0.75),
        ("3.6 km/h", "speed", 1.0),
        (4, "distance", 4.0),
    ],
)
def test_numbers_with_units_become_si(text, quantity, si):
    assert to_si(text, quantity, 1.5) == pytest.approx(si, rel=1e-5)


@given(st.text(max_size=20), st.sampled_from(sorted(UNITS)))
def test_any_other_text_is_no_number(text, quantity):
    with contextlib.suppress(ValueError):
        assert math.isfinite(to_si(text, quantity, 1.0))


def test_a_call_becomes_an_action_with_target_and_pose():
    action = ground(Call("bring", {"object": "box", "from": "rack_7", "to": "dock_3"}, 0.9), SKILLS, SITE)
    assert (action.target_id, action.pose, action.risk) == ("dock_3", (10.0, 1.0, -1.57), "medium")
    assert ground(Call("follow", {"person": "speaker"}), SKILLS, SITE).target_id == ""


@pytest.mark.parametrize(
    "call, why",
    [
        (Call("fly_to", {"location": "dock_3"}), "can't fly to"),
        (Call("navigate_to", {"location": "dock_9"}), "don't know dock 9"),
        (Call("navigate_to", {"location": "pallet"}), "don't know pallet"),
        (Call("navigate_to", {}), "needs a location"),
        (Call("navigate_to", {"location": "dock_3", "speed": "9"}), "speed"),
        (Call("navigate_to", {"location": "battery_room"}), "no-go zone"),
        (Call("bring", {"object": "box", "to": "battery_room"}), "no-go zone"),
        (Call("inspect", {}), "object or a location"),
        (Call("set_speed", {"speed": "200 %"}), "outside my limits"),
        (Call("set_speed", {"speed": "40 km/h"}), "outside my limits"),
        (Call("move", {"direction": "up"}), "direction"),
        (Call("move", {"direction": "forward", "distance": "nan"}), "understand"),
        (Call("pick", {"object": "box", "quantity": "0"}), "outside my limits"),
        (Call("say", {"text": "   "}), "empty"),
        (Call("wait", {"duration": "2 parsec"}), "understand"),
    ],
)
def test_a_doubtful_call_is_no_action(call, why):
    with pytest.raises(GroundingError, match=why):
        ground(call, SKILLS, SITE)


@given(
    st.sampled_from([s.name for s in SKILLS]),
    st.dictionaries(st.sampled_from(["location", "object", "to", "speed", "quantity", "text"]), st.text(max_size=12)),
)
def test_whatever_is_called_only_known_places_in_limits_pass(name, arguments):
    try:
        action = ground(Call(name, arguments), SKILLS, SITE)
    except GroundingError:
        return
    for key in ("location", "to", "from"):
        if key in action.arguments:
            place = action.arguments[key]
            assert place in SITE.people or (place in SITE.locations and not SITE.forbids(place))


@given(x=st.floats(26.01, 29.99), y=st.floats(14.01, 17.99))
def test_a_pose_inside_a_no_go_polygon_is_forbidden_whatever_its_zone_says(x, y):
    site = Site.load(
        {
            "locations": {"spot": {"pose": [x, y, 0]}},
            "zones": {"closed": {"policy": "no_go", "polygon": [[26, 14], [30, 14], [30, 18], [26, 18]]}},
        }
    )
    assert site.forbids("spot")


@pytest.mark.parametrize(
    "text, message",
    [
        ("locations: [", "line"),
        ("[]", "mapping"),
        ("locations: {}", "at least one location"),
        ("locations: {Dock 3: {}}", "snake_case"),
        ("locations: {dock_3: {pose: [1, 2]}}", "3 finite numbers"),
        ("locations: {dock_3: {pose: [1, 2, .nan]}}", "3 finite numbers"),
        ("locations: {dock_3: {zone: cellar}}", "zone 'cellar' is not defined"),
        ("locations: {a: {}}\nobjects: {a: {}}", "both a location and a object"),
        ("locations: {a: {}}\nlocatons: {}", "unknown key 'locatons'"),
        ("locations: {a: {aliases: 3}}", "list of names"),
    ],
)
def test_a_malformed_site_names_file_and_cause(tmp_path: Path, text, message):
    path = tmp_path / "hall.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        Site.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("skills:\n  Fly: {description: x}", "snake_case"),
        ("skills:\n  refuse: {description: x}", "taken by a reply"),
        ("skills:\n  fly: {}", "needs 'description"),
        ("skills:\n  fly: {description: x, risk: huge}", "risk 'huge'"),
        ("skills:\n  fly: {description: x, arguments: {to: {type: planet}}}", "needs 'type'"),
        ("skills:\n  fly: {description: x, arguments: {h: {type: number, quantity: hope}}}", "quantity"),
        ("skills:\n  fly: {description: x, arguments: {n: {type: integer, min: 5, max: 2}}}", "min <= max"),
        ("skills:\n  fly: {description: x, one_of: [a]}", "not an argument"),
        ("nothing: 1", "needs a mapping 'skills:'"),
    ],
)
def test_a_malformed_skills_file_names_skill_and_way_out(tmp_path: Path, text, message):
    path = tmp_path / "skills.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Skills.load(path)


def test_a_site_that_is_not_there_says_which_ship():
    with pytest.raises(ConfigError, match="warehouse"):
        Site.load("moonbase")


@pytest.mark.parametrize(
    "heard, key, yes",
    [
        ("go to dock 3", "dock_3", True),
        ("Go to Dock three.", "dock_3", True),
        ("go to the third doc", "dock_3", True),
        ("go to dock 9", "dock_3", False),
        ("go to dock 13", "dock_3", False),
        ("go to the dock", "dock_3", False),
        ("isle for", "aisle_4", True),
        ("take it to the freezer", "cold_storage", True),
        ("take it to the kitchen", "cold_storage", False),
        ("both palettes please", "pallet", True),
        ("the drums", "pallet", False),
        ("give it to mariah", "maria", True),
        ("give it to john", "maria", False),
    ],
)
def test_only_a_name_that_was_said_counts_as_heard(heard, key, yes):
    named = SITE.locations.get(key) or SITE.objects.get(key) or SITE.people[key]
    assert was_heard(named, heard) is yes


def test_twenty_one_is_a_number_of_its_own():
    site = Site.load({"locations": {"rack_21": {}, "rack_1": {}, "rack_20": {}}})
    assert was_heard(site.locations["rack_21"], "rack twenty one")
    assert not was_heard(site.locations["rack_21"], "rack twenty two")


@pytest.mark.parametrize(
    "name, heard, yes",
    [
        ("slot forty two", "slot 42", True),
        ("slot forty two", "slot forty two", True),
        ("slot forty two", "slot forty", False),
        ("slot forty two", "slot two", False),
        ("room 301", "room three zero one", True),
        ("room 301", "room three oh one", True),
        ("room 301", "room three one", False),
        ("gate one", "gate 1", True),
        ("bay B", "bay b", True),
        ("bay B", "bay c", False),
        ("wheelbarrow", "the wheel barrows", True),
        ("wheelbarrow", "the big wheel", False),
    ],
)
def test_a_name_may_be_said_in_any_way(name, heard, yes):
    site = Site.load({"locations": {"place": {"aliases": [name]}}})
    assert was_heard(site.locations["place"], heard) is yes


def test_an_action_on_a_name_nobody_spoke_of_is_seen():
    action = ground(Call("bring", {"object": "box", "to": "dock_3"}), SKILLS, SITE)
    assert unheard(action, SKILLS, SITE, "bring a box to dock 9") == ["to"]
    assert unheard(action, SKILLS, SITE, "bring a box to dock 3") == []
    assert unheard(action, SKILLS, SITE, "bring it there", "a box is at dock 3") == []
    assert unheard(action, SKILLS, SITE, "bring it to dock nine", "a box is at dock 3") == ["to"]
    assert unheard(ground(Call("follow", {"person": "speaker"}), SKILLS, SITE), SKILLS, SITE, "come on") == []


def test_a_name_nobody_spoke_of_moves_nothing_and_is_left_out_of_a_report():
    with pytest.raises(GroundingError, match="Did you mean dock 3"):
        checked(Call("navigate_to", {"location": "dock_3"}), SKILLS, SITE, "go to dock 9")
    report = Call("report_defect", {"defect_type": "crack", "location": "rack_7", "object": "tool_cart"})
    kept = checked(report, SKILLS, SITE, "a crack in rack 7").arguments
    assert kept == {"defect_type": "crack", "location": "rack_7"}
