"""Ids that can be read, for the model: a site's own ids may be codes (wp_17), which are hard to copy from a prompt.

The model sees a site whose ids are made of the names that people say (paint_booth); actions get the site's own back.
Ids that already are one of their names stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nano_agent_ros.skills.evidence import NAMED_TYPES
from nano_agent_ros.skills.ground import Action
from nano_agent_ros.skills.registry import Skill
from nano_agent_ros.skills.site import ID, SPEAKER, Named, Site


@dataclass(frozen=True)
class Handles:
    """`site` as the model sees it; `of` maps ids of the real site to those of this one, where they differ."""

    site: Site
    of: Mapping[str, str]

    @staticmethod
    def make(site: Site) -> Handles:
        """Readable ids for a site; an id stays where a name makes none that is free."""
        groups = (site.locations, site.objects, site.people)
        taken = {key for group in groups for key in group}
        of: dict[str, str] = {}
        for named in (n for group in groups for n in group.values()):
            if named.id == SPEAKER or named.id in map(slug, named.names):
                continue
            handle = next((h for h in map(slug, named.names) if ID.fullmatch(h) and h not in taken), "")
            if handle:
                of[named.id] = handle
                taken.add(handle)

        def renamed(group: Mapping[str, Named]) -> dict[str, Named]:
            return {of.get(key, key): replace(named, id=of.get(key, key)) for key, named in group.items()}

        seen = replace(
            site,
            locations=renamed(site.locations),  # type: ignore[arg-type]
            objects=renamed(site.objects),
            people=renamed(site.people),
        )
        return Handles(seen, of)

    def facts(self, facts: Mapping[str, str | int | float]) -> Mapping[str, str | int | float]:
        """Facts with the ids that the model sees."""
        return {key: self.of.get(value, value) if isinstance(value, str) else value for key, value in facts.items()}

    def action(self, action: Action, skill: Skill) -> Action:
        """An action on the model's ids as one on the site's own."""
        ids = {handle: key for key, handle in self.of.items()}
        named = {a.name for a in skill.arguments if a.type in NAMED_TYPES}
        arguments = {k: ids.get(str(v), v) if k in named else v for k, v in action.arguments.items()}
        return replace(action, arguments=arguments, target_id=ids.get(action.target_id, action.target_id))


def slug(name: str) -> str:
    """Lower-case snake_case of a name, in ASCII: `cafe_3` for "Café 3"."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
