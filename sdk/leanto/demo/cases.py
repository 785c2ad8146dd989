"""What the demo asks, and the call that is right for it. Written for the demo; none of it is in the training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Circumstance = Literal["", "private", "low battery", "low battery, cloud unreachable"]


@dataclass(frozen=True, slots=True)
class Case:
    """One utterance. `circumstance` is what is special about it."""

    utterance: str
    intent: str
    slots: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    circumstance: Circumstance = ""

    def is_right(self, call: Mapping[str, Any] | None) -> bool:
        """Exact match: the intent and every slot."""
        return call is not None and call.get("intent") == self.intent and dict(call.get("slots") or {}) == dict(self.slots)


CASES = (
    Case("turn off the lights in the hallway", "iot_hue_lightoff", {"house_place": "hallway"}),
    Case("wake me at half past six on weekdays", "alarm_set", {"time": "half past six", "date": "weekdays"}),
    Case("will it snow in oslo on friday", "weather_query", {"weather_descriptor": "snow", "place_name": "oslo", "time_range": "friday"}),
    Case("cancel my nine thirty alarm", "alarm_remove", {"time": "nine thirty"}),
    Case("play a song by nina simone on deezer", "play_music", {"music_item": "song", "artist_name": "nina simone", "service": "deezer"}),
    Case(
        "add this song to my rainy sunday playlist",
        "playlist_add",
        {"music_item": "song", "playlist_owner": "my", "playlist_name": "rainy sunday"},
    ),
    Case("mute the kitchen speaker please", "audio_volume_mute", {"house_place": "kitchen", "device_type": "speaker"}),
    Case("put oat milk on my grocery list", "lists_createoradd", {"list_name": "grocery"}),
    Case(
        "send an email to priya that my test results are back",
        "email_sendemail",
        {"person": "priya"},
        "private",
    ),
    Case("change the porch lights to purple", "iot_hue_lightchange", {"house_place": "porch", "color_type": "purple"}),
    Case(
        "book a table for five at a bistro in lisbon",
        "restaurant_book",
        {"party_size_number": "five", "restaurant_type": "bistro", "place_name": "lisbon"},
    ),
    Case(
        "find the movies playing at the closest cinema at eight pm",
        "screening_search",
        {"movie_type": "movies", "spatial_relation": "closest", "object_location_type": "cinema", "time_range": "eight pm"},
    ),
    Case("how do i dispute a charge on my credit card", "none"),
    Case("what does ephemeral mean", "qa_definition", {"definition_word": "ephemeral"}),
    Case(
        "i would give this saga two points out of 6",
        "book_rate",
        {
            "object_select": "this",
            "object_part_of_series_type": "saga",
            "rating_value": "two",
            "rating_unit": "points",
            "best_rating": "6",
        },
    ),
    Case(
        "start the coffee machine at ten past seven",
        "iot_coffee",
        {"device_type": "coffee machine", "time": "ten past seven"},
        "low battery",
    ),
    Case("book me an uber to the harbour", "transport_taxi", {"transport_agency": "uber", "place_name": "harbour"}),
    Case("what time is it in nairobi", "datetime_query", {"place_name": "nairobi"}),
    Case("how much is a share of nokia worth", "qa_stock", {"business_name": "nokia"}),
    Case("do i have anything on my calendar for next thursday", "calendar_query", {"date": "next thursday"}),
    Case(
        "find the saga called the lantern keepers of orre",
        "work_search",
        {"object_type": "saga", "object_name": "the lantern keepers of orre"},
        "low battery, cloud unreachable",
    ),
    Case("is there news about the volcano", "news_query", {"news_topic": "volcano"}),
)

STORY = "Once upon a time there was a little boat that wanted to see the sea. One day"
