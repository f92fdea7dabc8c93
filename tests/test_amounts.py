"""The number of an action must be one that was said."""

import math
from dataclasses import replace

import pytest

from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, GroundingError, Site, Skills, checked, ground
from nano_agent_ros.skills.amounts import amounts, numbers
from nano_agent_ros.skills.evidence import other_amount
from training.generate import Generator

SKILLS, SITE = Skills.load(default_skills()), Site.load("warehouse")


@pytest.mark.parametrize(
    "text, quantity, expected",
    [
        ("two and a half metres", "distance", 2.5),
        ("go 2m then left", "distance", 2.0),
        ("a metre twenty", "distance", 1.2),
        ("a metre seventy five", "distance", 1.75),
        ("one and three quarters metres", "distance", 1.75),
        ("five hundred mills", "distance", 0.5),
        ("left eight fifty mm", "distance", 0.85),
        ("zero point two five metres", "distance", 0.25),
        ("won point seven metres", "distance", 1.7),
        ("twenty-five cm", "distance", 0.25),
        ("a minute and a half", "duration", 90.0),
        ("an hour and ten minutes", "duration", 4200.0),
        ("three quarters of an hour", "duration", 2700.0),
        ("half an hour", "duration", 1800.0),
        ("1 min 30 s", "duration", 90.0),
        ("1,200 seconds", "duration", 1200.0),
        ("a couple of minutes", "duration", 120.0),
        ("a hundred and twenty seconds", "duration", 120.0),
        ("one hundred kilometre per hour", "speed", 100 / 3.6),
        ("point three metres a second", "speed", 0.3),
        ("thirty per cent", "speed", 0.45),
        ("50%", "speed", 0.75),
        ("ninety degrees", "angle", math.pi / 2),
    ],
)
def test_amounts_are_read_as_people_say_them(text, quantity, expected):
    assert any(math.isclose(expected, found) for found in amounts(text, quantity, maximum=1.5))


def test_of_a_number_in_words_the_whole_counts_and_not_its_end():
    assert amounts("one hundred kilometres per hour", "speed", 1.5) == {100 / 3.6}
    assert amounts("twenty five metres", "distance", 1.5) == {25.0}


def test_the_metres_of_a_speed_are_no_distance():
    assert amounts("two metres per second", "distance", 1.5) == set()


@pytest.mark.parametrize(
    "text, quantity", [("a few minutes", "duration"), ("full speed", "speed"), ("faster", "speed")]
)
def test_what_cannot_be_read_says_nothing(text, quantity):
    assert amounts(text, quantity, 1.5) is None


@pytest.mark.parametrize(
    "text, expected",
    [("half a dozen boxes", 6), ("a couple of bins", 2), ("two dozen", 24), ("patrol twice", 2), ("pick to boxes", 2),
     ("a hundred and five totes", 105), ("ten laps of position #2", 10)],
)  # fmt: skip
def test_counts_are_read_as_people_say_them(text, expected):
    assert expected in numbers(text)


def test_a_number_that_was_not_said_is_refused():
    with pytest.raises(GroundingError, match="speed"):
        checked(Call("set_speed", {"speed": "1 km/h"}), SKILLS, SITE, "speed one hundred kilometres per hour")
    with pytest.raises(GroundingError, match="quantity"):
        checked(Call("pick", {"object": "pallet", "quantity": "2"}), SKILLS, SITE, "pick up twelve pallets")
    assert checked(Call("set_speed", {"speed": "50 %"}), SKILLS, SITE, "a bit slower please")
    earlier = checked(
        Call("pick", {"object": "pallet", "quantity": "12"}), SKILLS, SITE, "those pallets", "twelve pallets"
    )
    assert earlier.arguments["quantity"] == 12


def numbered(conversation):
    """Each expected action with numbers, what was said, and what was said and told before."""
    site, spoken = Site.load(conversation["site"]), []
    for turn in conversation["turns"]:
        facts = " ".join(map(str, turn.get("facts", {}).values()))
        for action in turn["expect"]["actions"]:
            types = {a.name: a.type for a in SKILLS[action["skill"]].arguments}
            call = Call(action["skill"], {k: str(v) for k, v in action["arguments"].items()})
            if any(types[name] in ("number", "integer") for name in call.arguments):
                yield ground(call, SKILLS, site), turn["say"], " ".join([*spoken, facts])
        spoken += [turn["say"], turn["expect"].get("text", "")]


def test_generated_talk_passes_with_its_own_numbers_and_seldom_with_others():
    generator = Generator()
    said = [one for i in range(400) for one in numbered(generator.conversation(11, i, 40))]
    refused = [text for action, text, earlier in said if other_amount(action, SKILLS, text, earlier)]
    assert len(said) > 200
    assert len(refused) <= 0.01 * len(said), refused
    missed = 0
    for action, text, earlier in said:
        wrong = {k: v * 3 + 4 if isinstance(v, int | float) else v for k, v in action.arguments.items()}
        missed += not other_amount(replace(action, arguments=wrong), SKILLS, text, earlier)
    assert missed <= 0.25 * len(said)
