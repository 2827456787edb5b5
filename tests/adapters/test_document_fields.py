"""Fields of the built-in Document: what they hold, what they refuse, and what comes back of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from bson import ObjectId

from gridproxy import BadOption, ValidationError
from gridproxy.adapters.document import (
    BaseDocument,
    BooleanField,
    DateTimeField,
    DictField,
    Document,
    Field,
    FileField,
    FloatField,
    IntField,
    ListField,
    StringField,
)

from ..observing import Database


class Animal(Document):
    genus = StringField()
    legs = IntField()
    weight = FloatField()
    tame = BooleanField()
    born = DateTimeField()
    tags = ListField(StringField())
    anything = ListField()
    measures = ListField(ListField(FloatField()))
    notes = ListField(DictField())
    extra = DictField()
    photo = FileField()


# Values


def test_a_new_document_has_none_and_empty_containers() -> None:
    animal = Animal()
    assert animal.id is None
    assert (animal.genus, animal.legs, animal.weight, animal.tame, animal.born) == (None,) * 5
    assert animal.tags == animal.anything == animal.measures == animal.notes == []
    assert animal.extra == {}
    assert not animal.photo


@pytest.mark.usefixtures("connected")
async def test_every_kind_of_value_is_loaded_as_it_was_saved() -> None:
    values: dict[str, Any] = {
        "genus": "Marmota",
        "legs": 4,
        "weight": 5.5,
        "tame": False,
        "born": datetime(2024, 5, 1, 12, 30, 15, 123000, UTC),
        "tags": ["furry", "loud"],
        "anything": [1, "two", None, {"three": [3]}],
        "measures": [[1.0, 2.0], []],
        "notes": [{"by": "me", "stars": 5}],
        "extra": {"a": {"b": [1, 2]}, "c.d": 1, "$e": 2},
    }
    animal = await Animal(**values).save()
    found = await Animal.objects(id=animal.id).get()
    for name, value in values.items():
        assert getattr(found, name) == value
        assert type(getattr(found, name)) is type(value)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("name", ["genus", "legs", "weight", "tame", "born"])
async def test_none_can_be_assigned_to_any_single_value(name: str) -> None:
    animal = Animal(genus="Marmota", legs=4, weight=1.0, tame=True, born=datetime.now(UTC))
    await animal.save()
    setattr(animal, name, None)
    await animal.save()
    assert getattr(await Animal.objects(id=animal.id).get(), name) is None


BAD: list[tuple[str, Any, str]] = [
    ("genus", 7, "str is needed, not int 7"),
    ("genus", b"bytes", "str is needed, not bytes"),
    ("legs", "four", "int is needed, not str"),
    ("legs", 4.0, "int is needed, not float"),
    ("legs", True, "int is needed, not bool"),
    ("legs", 2**63, "64 bits"),
    ("legs", -(2**63) - 1, "64 bits"),
    ("legs", 10**5000, "64 bits"),
    ("weight", "heavy", "float is needed, not str"),
    ("weight", True, "float is needed, not bool"),
    ("weight", 10**400, "too large for a float"),
    ("tame", 1, "bool is needed, not int"),
    ("tame", "yes", "bool is needed"),
    ("born", "2024-05-01", "datetime is needed, not str"),
    ("born", datetime(2024, 5, 1, tzinfo=UTC).date(), "datetime is needed, not datetime.date"),
    ("born", datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "exists in UTC"),
    ("tags", "furry", "list is needed, not str"),
    ("tags", {"furry": 1}, "list is needed, not dict"),
    ("tags", 7, "list is needed, not int"),
    ("tags", ["furry", 7], "str is needed, not int"),
    ("tags", [None], "str is needed"),
    ("measures", [[1.0], ["a"]], "float is needed, not str"),
    ("notes", [{"a": 1}, "b"], "mapping is needed, not str"),
    ("extra", [("a", 1)], "mapping is needed, not list"),
    ("extra", "a", "mapping is needed, not str"),
    ("extra", {7: "seven"}, "a key must be a str"),
    ("extra", {"nul\0": 1}, "without NUL"),
    ("photo", 7, "int cannot be read as bytes"),
    ("photo", {"$gt": ""}, "cannot be a mapping"),
    ("photo", "no id", "24 hex digits"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=lambda value: str(type(value).__name__))
def test_what_a_field_refuses_names_the_field(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as built:
        Animal(**{name: value})
    animal = Animal()
    before = getattr(animal, name)
    with pytest.raises(ValidationError, match=message) as assigned:
        setattr(animal, name, value)
    for caught in (built, assigned):
        assert caught.value.field.startswith(name)
        assert str(caught.value).startswith(name)
        assert len(str(caught.value)) < 300
    assert getattr(animal, name) == before


def test_what_a_list_refuses_names_the_place() -> None:
    with pytest.raises(ValidationError) as caught:
        Animal(tags=["furry", "loud", 7])
    assert caught.value.field == "tags.2"
    with pytest.raises(ValidationError) as nested:
        Animal(measures=[[1.0], [2.0, "three"]])
    assert nested.value.field == "measures.1.1"


def test_a_long_value_is_shown_shortened() -> None:
    with pytest.raises(ValidationError) as caught:
        Animal(legs="x" * 10_000)
    assert len(str(caught.value)) < 200


def test_an_int_becomes_a_float() -> None:
    animal = Animal(weight=5)
    assert animal.weight == 5.0
    assert isinstance(animal.weight, float)


def test_a_datetime_is_kept_in_utc_to_the_millisecond() -> None:
    animal = Animal(born=datetime(2024, 5, 1, 14, 0, 0, 123456, timezone(timedelta(hours=2))))
    assert animal.born == datetime(2024, 5, 1, 12, 0, 0, 123000, UTC)
    animal.born = datetime(2024, 5, 1, 12, 0, 0)  # noqa: DTZ001  # a naive one is what is tested
    assert animal.born == datetime(2024, 5, 1, 12, 0, 0, 0, UTC)


def test_containers_are_copied_when_they_are_assigned() -> None:
    tags, extra = ["furry"], {"a": 1}
    animal = Animal(tags=tags, extra=extra)
    tags.append("loud")
    extra["b"] = 2
    assert animal.tags == ["furry"]
    assert animal.extra == {"a": 1}
    animal.tags = ("a", "tuple")
    animal.extra = MappingProxyType({"read": "only"})
    assert animal.tags == ["a", "tuple"]
    assert animal.extra == {"read": "only"}
    animal.tags = None
    animal.extra = None
    assert (animal.tags, animal.extra) == ([], {})


# Defaults


class Defaulted(Document):
    kind = StringField(default="marmot")
    no = IntField(default=lambda: next(Defaulted.numbers))
    tags = ListField(StringField(), default=["furry"])
    extra = DictField(default={"nested": {"a": [1]}})

    numbers: Iterator[int] = iter(range(100))


def test_defaults_are_values_or_made_for_each_document() -> None:
    one, two = Defaulted(), Defaulted()
    assert (one.kind, two.kind) == ("marmot", "marmot")
    assert one.no is not None
    assert two.no == one.no + 1
    given = Defaulted(no=50, kind="pika")
    assert (given.no, given.kind) == (50, "pika")
    assert Defaulted().no == two.no + 1  # none was made for the one that was given


def test_mutable_defaults_are_never_shared() -> None:
    one = Defaulted()
    one.tags.append("loud")
    one.extra["nested"]["a"].append(2)
    two = Defaulted()
    assert two.tags == ["furry"]
    assert two.extra == {"nested": {"a": [1]}}


def test_a_query_makes_no_defaults() -> None:
    before = Defaulted().no
    assert before is not None
    Defaulted.objects(kind="marmot", no=3, tags="furry")
    assert Defaulted().no == before + 1


def test_an_invalid_default_raises_with_the_field() -> None:
    class Wrong(Document):
        legs = IntField(default=lambda: "four")  # type: ignore[arg-type, return-value]

    with pytest.raises(ValidationError, match="legs"):
        Wrong()


# Required


class Needed(Document):
    name = StringField(required=True)
    tags = ListField(required=True)
    extra = DictField(required=True)
    photo = FileField(required=True)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("missing", ["name", "tags", "extra", "photo"])
async def test_a_required_field_must_hold_something_when_saved(missing: str, database: Database) -> None:
    values: dict[str, Any] = {"name": "x", "tags": [1], "extra": {"a": 1}, "photo": b"content counts"}
    lacking = Needed(**{name: value for name, value in values.items() if name != missing})
    with pytest.raises(ValidationError, match="required") as caught:
        await lacking.save()
    assert caught.value.field == missing
    assert await database["needed"].count_documents({}) == 0
    assert await database["fs.files"].count_documents({}) == 0
    setattr(lacking, missing, values[missing])
    await lacking.save()


# Declarations


def test_fields_are_inherited_added_overridden_and_removed() -> None:
    class Mammal(Document):
        name = StringField()
        fur = BooleanField(default=True)

    class Named:
        nickname = StringField()

    class Bat(Named, Mammal):
        wings = IntField(default=2)
        fur = None

    bat = Bat(name="bat", nickname="b", wings=2)
    assert (bat.name, bat.nickname, bat.wings, bat.fur) == ("bat", "b", 2, None)
    with pytest.raises(ValidationError, match="fur"):
        Bat(fur=True)
    with pytest.raises(ValidationError, match="nickname"):
        Mammal(nickname="b")


def test_fields_of_two_parents_are_merged() -> None:
    class Flying(Document):
        wings = IntField()

    class Swimming(Document):
        fins = IntField()

    class Duck(Flying, Swimming):
        pass

    assert Duck(wings=2, fins=0).fins == 0


@pytest.mark.parametrize("name", ["id", "save", "objects", "_private", "reload", "delete"])
def test_a_field_cannot_have_the_name_of_a_document_member(name: str) -> None:
    with pytest.raises(BadOption, match=name):
        type("Wrong", (Document,), {name: StringField()})


@pytest.mark.parametrize(
    "options", [{"on_delete": "explode"}, {"max_size": -1}, {"max_size": "large"}, {"bucket": 7}, {"db_alias": 7}]
)
def test_a_file_field_checks_its_options(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        FileField(**options)


@pytest.mark.parametrize("id", [["a"], {"$gt": ""}])
def test_an_id_that_no_document_can_have_is_refused(id: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Animal(id=id)
    assert caught.value.field == "id"


def test_an_unknown_field_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValidationError, match=r"genuss.*genus, legs") as caught:
        Animal(genuss="Marmota")
    assert caught.value.field == "genuss"


def test_a_field_of_the_class_is_the_field_itself() -> None:
    assert isinstance(Animal.genus, StringField)
    assert isinstance(Animal.photo, FileField)


def test_a_custom_field_needs_only_its_check() -> None:
    class EvenField(Field[int | None, int | None]):
        def checked(self, owner: BaseDocument, value: Any) -> int:
            if value % 2:
                raise self.refuse("an even int", value)
            return int(value)

    class Pair(Document):
        count = EvenField()

    assert Pair(count=4).count == 4
    with pytest.raises(ValidationError, match="even"):
        Pair(count=3)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tags", lambda animal: animal.tags.append(7)),
        ("notes", lambda animal: animal.notes.append("no dict")),
        ("extra", lambda animal: animal.extra.update({7: "seven"})),
        ("extra", lambda animal: animal.extra.update(nested={"deep": object()})),
        ("extra", lambda animal: animal.extra.update(nested={7: "seven"})),
        ("anything", lambda animal: animal.anything.append(2**64)),
        ("genus", lambda animal: setattr(animal, "genus", "\ud800")),
    ],
)
async def test_what_was_changed_in_place_is_checked_when_saved(name: str, change: Any, database: Database) -> None:
    animal = await Animal(genus="Marmota").save()
    before = await database["animal"].find_one({})
    change(animal)
    with pytest.raises(ValidationError) as caught:
        await animal.save()
    assert caught.value.field.startswith(name)
    assert await database["animal"].find_one({}) == before


@pytest.mark.usefixtures("connected")
async def test_untyped_containers_hold_object_ids_and_other_bson_values() -> None:
    id = ObjectId()
    animal = await Animal(anything=[id, b"bytes", datetime(2024, 1, 1, tzinfo=UTC)], extra={"id": id}).save()
    found = await Animal.objects(id=animal.id).get()
    assert found.anything[:2] == [id, b"bytes"]
    assert found.extra == {"id": id}
