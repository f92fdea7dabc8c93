"""A site's own ids may be codes: the model sees readable ones, and actions get the codes back."""

from hypothesis import given
from hypothesis import strategies as st

from nano_agent_ros.agent import Agent, Model
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Action, Site, Skills
from nano_agent_ros.skills.handles import Handles, slug

SKILLS = Skills.load(default_skills())
NAMES = (
    "paint booth", "wash bay", "gear store", "test bench", "north gate", "spray room", "quiet corner", "tool crib",
    "boiler house", "press shop", "sample fridge", "scrap yard",
)  # fmt: skip


def coded(names, start=17):
    return {
        "locations": {f"wp_{i}": {"aliases": [name], "pose": [i, 0, 0]} for i, name in enumerate(names, start)},
        "objects": {"obj_7": {"aliases": ["scanner"]}},
        "people": {"u_1": {"aliases": ["Maria"]}},
    }


def test_ids_that_are_one_of_their_names_stay():
    site = Site.load("warehouse")
    assert Handles.make(site).of.get("dock_3") is None
    assert "charging_station" in Handles.make(site).site.locations


def test_codes_become_names_and_come_back():
    handles = Handles.make(Site.load(coded(NAMES)))
    assert handles.of["wp_17"] == "paint_booth" and handles.of["obj_7"] == "scanner"
    assert handles.facts({"location": "wp_17", "carrying": "obj_7", "battery": 40}) == {
        "location": "paint_booth", "carrying": "scanner", "battery": 40,
    }  # fmt: skip
    bring = Action("bring", {"object": "scanner", "to": "speaker"}, "medium", False, 1.0, "scanner", None)
    assert handles.action(bring, SKILLS["bring"]).arguments == {"object": "obj_7", "to": "speaker"}
    assert handles.action(bring, SKILLS["bring"]).target_id == "obj_7"


def test_words_that_are_no_names_stay_words():
    handles = Handles.make(Site.load(coded(NAMES)))
    say = Action("say", {"message": "scanner", "person": "maria"}, "none", False, 1.0, "maria", None)
    assert handles.action(say, SKILLS["say"]).arguments == {"message": "scanner", "person": "u_1"}


aliases = st.lists(st.text("aB1é _-#", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=3)


@given(st.lists(aliases, min_size=1, max_size=8), st.booleans())
def test_any_site_keeps_its_things_under_ids_of_their_own(names, swapped):
    ids = [f"p_{i}" for i in range(len(names))]
    if swapped:  # an id that is another one's name
        ids[0] = next((s for group in names[1:] for s in map(slug, group) if s), "p_0")
    data = {"locations": {key: {"aliases": group} for key, group in zip(ids, names, strict=True)}}
    site = Site.load(data)
    handles = Handles.make(site)
    back = {handle: key for key, handle in handles.of.items()}
    assert len(handles.site.locations) == len(site.locations)
    for key, named in handles.site.locations.items():
        assert named.id == key and named.names == site.locations[back.get(key, key)].names


def test_a_site_of_codes_written_today_works_without_training():
    agent = Agent(Model.open(), SKILLS, Site.load(coded(NAMES)))
    right = 0
    for i, name in enumerate(NAMES, 17):
        agent.reset()
        actions = agent.hear(f"please drive to the {name}").actions
        assert [a.arguments for a in actions] in ([], [{"location": f"wp_{i}"}]), "a place that nobody asked for"
        right += len(actions)
        assert all(a.pose == (i, 0, 0) and a.target_id == f"wp_{i}" for a in actions)
    assert right >= 8
