"""Claims about mentions: names of the site are found as people say them, and nothing that is said breaks the search."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.skills import Site
from nano_agent_ros.skills.mentions import MOST, Mentions

SITE = Site.load(
    {
        "locations": {
            "dock_1": ["dock 1", "dock one"],
            "dock_3": ["dock 3", "door three"],
            "room_301": ["room 301"],
            "lane_b": ["lane B"],
            "bay_a": ["bay A"],
            "ward_3": ["ward 3"],
            "luggage_room": ["luggage room", "bag room"],
            "back_office": ["back office"],
            "shipping_office": ["shipping office", "the office of shipping"],
            "receiving": ["receiving", "goods in"],
        },
        "objects": {"mail_bag": ["mail bag", "mail sack"], "box": ["box"], "shelf": ["shelf"], "tray": ["seed tray"]},
        "people": {"mike": ["Mike"], "dr_okafor": ["Dr Okafor", "Doctor Okafor"]},
    }
)
MENTIONS = Mentions(SITE)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("go to dock 3", ["=dock_3"]),
        ("go to dock three", ["=dock_3"]),
        ("go to Door 3, please", ["door 3=dock_3"]),
        ("put two boxes on the shelves", ["=box", "=shelf"]),
        ("fetch the bag room", ["bag room=luggage_room"]),
        ("room three oh one", ["=room_301"]),
        ("room three hundred and one", ["=room_301"]),
        ("lane bravo, then bay A", ["lane bravo=lane_b", "=bay_a"]),
        ("bring a mail sack to Mike", ["mail sack=mail_bag", "=mike"]),
        ("tell mike and doctor okafor", ["=mike", "doctor okafor=dr_okafor"]),
        ("the office", ["office=back_office/shipping_office"]),
        ("no, the seed one", ["seed one=tray"]),
        ("the mail ones", ["mail ones=mail_bag"]),
        ("dock one three times", ["=dock_1"]),
        ("take it up to 301", ["301=room_301"]),
        ("go to the dock", ["dock=dock_1/dock_3"]),
        ("from dock one to dock three and back to dock one", ["=dock_1", "=dock_3"]),
    ],
)
def test_names_are_found_as_they_are_said(text, shown):
    assert [str(mention) for mention in MENTIONS.find(text)] == shown


@pytest.mark.parametrize(
    "text, shown",
    [
        ("take the male bag", ["male bag~mail_bag"]),
        ("go to word three", ["word three~ward_3"]),
        ("bring it to receive in", ["receive in~receiving"]),
        ("the boks", []),  # too short for it to tell
    ],
)
def test_names_that_were_perhaps_misheard_are_marked(text, shown):
    assert [str(mention) for mention in MENTIONS.find(text)] == shown


@pytest.mark.parametrize("text", ["dock nine", "go to dock 13", "room 302", "bay C", "come in", "", "a", "the", "wait"])
def test_what_the_site_does_not_have_is_not_found(text):
    assert MENTIONS.find(text) == []


def test_a_name_that_many_share_shows_some_of_them_and_that_there_are_more():
    site = Site.load({"locations": {f"aisle_{n}": [f"aisle {n}"] for n in range(9)}})
    assert Mentions(site).show("which aisle?") == "\naisle=aisle_0/aisle_1/aisle_2/..."


def test_every_name_of_the_site_that_ships_leads_to_its_id():
    site = Site.load("warehouse")
    mentions = Mentions(site)
    for named in [*site.locations.values(), *site.objects.values(), *site.people.values()]:
        for name in named.names:
            if named.id != "speaker":
                assert [m.ids for m in mentions.find(f"about {name}") if named.id in m.ids and m.sure], name


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_whatever_is_said_the_mentions_are_ids_of_the_site(text):
    known = {*SITE.locations, *SITE.objects, *SITE.people}
    found = MENTIONS.find(text)
    assert len(found) <= MOST and all(known.issuperset(mention.ids) for mention in found)


@given(st.lists(st.sampled_from(["dock", "three", "hundred", "oh", "and", "to", "9" * 13, "a", "office", "one", "b"])))
@settings(max_examples=200, deadline=None)
def test_numbers_and_names_in_any_order_are_read(words):
    MENTIONS.show(" ".join(words))


def test_a_site_without_names_has_no_mentions():
    bare = Site.load({"locations": {"x": ["!"]}})
    assert Mentions(bare).show("go to x or !") == "\n=x"
