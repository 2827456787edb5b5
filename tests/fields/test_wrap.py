"""wrap_field: the file beside an id that a class has already, from put to finalize, in every kind of class."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import beanie
import odmantic
import pytest
from bson import ObjectId

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, FileMissing, FileOptions, InfoNotLoaded, wrap_field
from gridproxy.fields import mark_loaded

from ..observing import Database, contents
from .wrapped import BY_HEX, EVERY, BeanieUser, Data, HexPlain, HexPydantic, OdmanticUser, Plain, Pydantic

pytestmark = pytest.mark.usefixtures("connected", "documents")


@pytest.fixture
async def documents(database: Database) -> None:
    """Beanie's class can be instantiated."""
    await beanie.init_beanie(database, document_models=[BeanieUser])


@pytest.fixture(params=EVERY, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    """Each class in turn."""
    return request.param


@pytest.fixture(params=[Data, HexPydantic], ids=lambda kind: kind.__name__)
def some(request: pytest.FixtureRequest) -> Any:
    """Two of them, where the class makes no difference."""
    return request.param


async def content(file: AsyncGridFile) -> bytes:
    """All of it, wherever the file's position is."""
    return await file.read_range(0, None)


async def with_avatar(kind: Any, content: bytes) -> Any:
    user = kind(name="Ada")
    await user.avatar.put(content)
    await user.avatar.finalize()
    return user


# The chapter


async def test_put_sets_the_attribute_in_its_form(kind: Any, database: Database) -> None:
    user = kind(name="Ada")
    assert not user.avatar
    info = await user.avatar.put(b"a face", filename="ada.png", content_type="image/png")
    expected = str(info.id) if kind in BY_HEX else info.id
    assert user.avatar_id == expected
    assert isinstance(user.avatar_id, type(expected))
    assert user.avatar.id == info.id
    assert user.avatar.metadata["content_type"] == "image/png"
    assert await content(user.avatar) == b"a face"
    assert await contents(database) == (1, 1)


async def test_an_existing_id_is_read_in_both_forms(some: Any) -> None:
    file = AsyncGridFile()
    await file.put(b"a face")
    user = some(name="Ada", avatar_id=str(file.id) if some in BY_HEX else file.id)
    with pytest.raises(InfoNotLoaded):
        _ = user.avatar.filename
    assert user.avatar == file
    assert await content(user.avatar) == b"a face"
    with pytest.raises(FileAlreadyStored):
        await user.avatar.put(b"another")


async def test_a_replaced_file_is_kept_until_finalize(kind: Any, database: Database) -> None:
    user = await with_avatar(kind, b"the old")
    old = user.avatar.id
    await user.avatar.replace(b"the new")
    assert await content(user.avatar) == b"the new"
    assert await content(AsyncGridFile(old)) == b"the old"
    await user.avatar.finalize()
    assert not await AsyncGridFile(old).exists()
    assert await contents(database) == (1, 1)


async def test_revert_restores_the_file_and_removes_newer_ones(kind: Any, database: Database) -> None:
    user = await with_avatar(kind, b"the old")
    before = user.avatar_id
    await user.avatar.replace(b"second")
    await user.avatar.replace(b"third")
    await user.avatar.revert()
    assert user.avatar_id == before
    assert type(user.avatar_id) is type(before)
    assert await content(user.avatar) == b"the old"
    assert await contents(database) == (1, 1)
    empty = kind(name="Bob")
    await empty.avatar.put(b"never saved")
    await empty.avatar.revert()
    assert empty.avatar_id is None
    assert await contents(database) == (1, 1)


async def test_a_new_file_is_written_bit_by_bit(some: Any) -> None:
    user = some(name="Ada")
    async with user.avatar.new_file() as file:
        assert file is user.avatar
        file.write("some ")
        file.write("data")
        assert user.avatar_id is None
    assert await content(user.avatar) == b"some data"
    await user.avatar.new_file(replace=True)
    await user.avatar.write("more")
    await user.avatar.close()
    assert await content(user.avatar) == b"more"
    with pytest.raises(OSError, match="gone"):
        async with user.avatar.new_file(replace=True):
            user.avatar.write("half")
            raise OSError("gone")
    assert await content(user.avatar) == b"more"


async def test_delete_empties_the_attribute_and_its_form_is_remembered(some: Any, database: Database) -> None:
    user = await with_avatar(some, b"a face")
    form = type(user.avatar_id)
    await user.avatar.delete()
    assert user.avatar_id is None
    assert await contents(database) == (0, 0)
    with pytest.raises(FileMissing):
        await user.avatar.read()
    await user.avatar.put(b"another")
    assert type(user.avatar_id) is form


# One file for each object


async def test_every_object_has_one_file_of_its_own(some: Any) -> None:
    one, other = some(name="Ada"), some(name="Ada")
    assert one.avatar is one.avatar
    assert one.avatar is not other.avatar
    await one.avatar.put(b"a face")
    assert other.avatar_id is None
    assert not other.avatar


async def test_copies_have_files_of_their_own(kind: Any) -> None:
    user = await with_avatar(kind, b"a face")
    copies = []
    if hasattr(user, "model_copy"):
        copies += [user.model_copy(), user.model_copy(deep=True)]
    if not isinstance(user, odmantic.Model):  # of which ODMantic makes no working copies in these ways
        copies += [copy.copy(user), copy.deepcopy(user), pickle.loads(pickle.dumps(user))]
    for other in copies:
        assert other.avatar is not user.avatar
        assert other.avatar_id == user.avatar_id
        await other.avatar.replace(b"another")
        assert user.avatar.id != other.avatar.id
        assert await content(user.avatar) == b"a face"


async def test_a_copy_made_while_the_file_is_being_written_has_the_old_one(some: Any) -> None:
    user = await with_avatar(some, b"the old")
    async with user.avatar.new_file(replace=True):
        user.avatar.write(b"the new")
        copies = [copy.deepcopy(user)]
        if hasattr(user, "model_copy"):
            copies.append(user.model_copy())
        for other in copies:
            assert await content(other.avatar) == b"the old"
    assert await content(user.avatar) == b"the new"
    for other in copies:
        assert await content(other.avatar) == b"the old"


async def test_a_copy_of_the_file_alone_is_a_file_like_any_other() -> None:
    user = await with_avatar(Plain, b"a face")
    for other in (copy.copy(user.avatar), copy.deepcopy(user.avatar), pickle.loads(pickle.dumps(user.avatar))):
        assert type(other) is AsyncGridFile
        assert other == user.avatar
        assert other.info == user.avatar.info
        await other.replace(b"another")
        assert await content(user.avatar) == b"a face"


async def test_a_collected_object_leaves_nothing_in_memory(kind: Any) -> None:
    field = vars(kind)["avatar"]
    user = kind(name="Ada")
    file = weakref.ref(user.avatar)
    del user
    gc.collect()
    assert file() is None
    assert len(field._files) == 0


async def test_a_file_outlives_its_object() -> None:
    stored = (await with_avatar(Plain, b"a face")).avatar
    gc.collect()
    assert await content(stored) == b"a face"
    await stored.replace(b"another")
    assert await content(stored) == b"another"
    await stored.finalize()
    await stored.delete()
    assert not stored


# What is assigned


async def test_an_id_a_file_or_none_moves_the_reference_and_removes_nothing(some: Any, database: Database) -> None:
    one, other = await with_avatar(some, b"one"), await with_avatar(some, b"other")
    form, mine, file = type(one.avatar_id), one.avatar.id, one.avatar
    for value in (other.avatar.id, str(other.avatar.id), other.avatar, AsyncGridFile(other.avatar.id)):
        one.avatar = None
        assert one.avatar_id is None
        one.avatar = value
        assert one.avatar is file
        assert one.avatar_id == other.avatar_id
        assert type(one.avatar_id) is form
        assert await content(one.avatar) == b"other"
    await one.avatar.revert()
    await one.avatar.finalize()
    assert await content(one.avatar) == b"other"
    assert await content(AsyncGridFile(mine)) == b"one"
    assert await contents(database) == (2, 2)


async def test_the_info_of_an_assigned_file_is_kept() -> None:
    user = Plain("Ada")
    file = AsyncGridFile()
    await file.put(b"a face", filename="ada.png")
    user.avatar = file
    assert user.avatar.filename == "ada.png"
    user.avatar = user.avatar
    assert user.avatar.filename == "ada.png"
    await user.avatar.replace(b"another")
    await user.avatar.finalize()
    assert await file.exists()  # it was only assigned, and may be another object's


async def test_an_assignment_to_the_attribute_changes_the_file(some: Any) -> None:
    one, other = await with_avatar(some, b"one"), await with_avatar(some, b"other")
    file = one.avatar
    mine = one.avatar_id
    assert file.length == 3
    await file.read(2)
    one.avatar_id = other.avatar_id
    with pytest.raises(InfoNotLoaded):
        _ = file.length
    assert file.info is None
    assert await content(file) == b"other"
    one.avatar_id = None
    assert not file
    await file.put(b"third")
    assert type(one.avatar_id) is type(mine)
    one.avatar_id = mine
    await file.revert()
    await file.finalize()
    assert await content(file) == b"one"


async def test_an_id_assigned_during_a_write_is_overwritten_and_its_file_kept(some: Any) -> None:
    one, other = await with_avatar(some, b"one"), await with_avatar(some, b"other")
    mine, form = one.avatar.id, type(one.avatar_id)
    async with one.avatar.new_file(replace=True):
        one.avatar.write(b"the new")
        one.avatar_id = other.avatar_id
        assert one.avatar.id == mine
    assert type(one.avatar_id) is form
    assert await content(one.avatar) == b"the new"
    await one.avatar.finalize()
    assert await content(other.avatar) == b"other"
    assert not await AsyncGridFile(mine).exists()


async def test_an_attribute_with_its_old_id_again_keeps_its_file() -> None:
    user = await with_avatar(Plain, b"the old")
    before = user.avatar_id
    await user.avatar.replace(b"the new")
    user.avatar_id = before
    await user.avatar.finalize()
    assert await content(user.avatar) == b"the old"


async def test_two_attributes_may_name_one_file(database: Database) -> None:
    class Page:
        avatar = wrap_field("avatar_id")
        banner = wrap_field("banner_id")

        def __init__(self, id: object) -> None:
            self.avatar_id = self.banner_id = id

    file = AsyncGridFile()
    await file.put(b"both")
    page = mark_loaded(Page(file.id))
    await page.avatar.replace(b"avatar alone")
    await page.avatar.finalize()
    assert await content(page.banner) == b"both"
    await page.banner.replace(b"banner alone")
    await page.banner.finalize()
    assert await content(page.avatar) == b"avatar alone"
    assert await contents(database) == (2, 2)


async def test_another_field_of_the_same_attribute_sees_the_same_file() -> None:
    class Double(Data):
        picture = wrap_field("avatar_id")

    user = Double("Ada")
    await user.avatar.put(b"a face")
    assert await content(user.picture) == b"a face"


# Options


async def test_the_options_are_those_of_a_field(database: Database) -> None:
    class User:
        by_name = wrap_field("one", bucket="avatars", max_size=10)
        by_bucket = wrap_field("two", bucket=Bucket(database, "covers"))
        by_alias = wrap_field("three", db_alias="default")
        one = two = three = None

    user = User()
    assert user.by_name.options == FileOptions(bucket="avatars", max_size=10)
    for file in (user.by_name, user.by_bucket, user.by_alias):
        await file.put(b"a face")
    assert await contents(database, "avatars") == (1, 1)
    assert await contents(database, "covers") == (1, 1)
    assert await contents(database) == (1, 1)


async def test_the_form_of_a_new_id_is_the_old_one_then_as_then_the_annotation() -> None:
    class Told:
        avatar = wrap_field("avatar_id", as_="id")
        avatar_id: str | None = None

    class Mixed:
        avatar = wrap_field("avatar_id")
        avatar_id: ObjectId | str | None = None

    class Bare:
        avatar = wrap_field("avatar_id")
        avatar_id = None

    class Beside:
        avatar = wrap_field("avatar_id")
        friend: NowhereDefined | None = None  # type: ignore[name-defined]  # noqa: F821  # for type checkers, elsewhere
        avatar_id: ObjectId | None = None

    for kind in (Told, Mixed, Bare, Beside):
        user: Any = kind()
        await user.avatar.put(b"a face")
        assert type(user.avatar_id) is ObjectId
        user.avatar_id = str(user.avatar_id)
        await user.avatar.replace(b"another")
        assert type(user.avatar_id) is str
    hexed = HexPlain("Ada", ObjectId())
    await hexed.avatar.replace(b"a face")
    assert type(hexed.avatar_id) is ObjectId


# In a transaction


async def test_an_aborted_transaction_restores_the_attribute(some: Any, client: Any, database: Database) -> None:
    user, new = await with_avatar(some, b"the old"), some(name="Bob")
    before = user.avatar_id
    with pytest.raises(OSError, match="taken back"):
        async with gridproxy.transaction(client) as tx:
            await user.avatar.replace(b"the new", session=tx.session)
            await new.avatar.put(b"of the new", session=tx.session)
            await user.avatar.finalize(session=tx.session)
            assert user.avatar_id != before
            raise OSError("taken back")
    assert user.avatar_id == before
    assert type(user.avatar_id) is type(before)
    assert new.avatar_id is None
    assert await content(user.avatar) == b"the old"
    assert await contents(database) == (1, 1)


async def test_a_committed_transaction_removes_the_old_file(some: Any, client: Any, database: Database) -> None:
    user = await with_avatar(some, b"the old")
    async with gridproxy.transaction(client) as tx:
        await user.avatar.replace(b"the new", session=tx.session)
        await user.avatar.finalize(session=tx.session)
    assert await content(user.avatar) == b"the new"
    assert await contents(database) == (1, 1)


# In an ODM of its own


async def test_beanie_saves_the_attribute(database: Database) -> None:
    user = BeanieUser(name="Ada")
    await user.avatar.put(b"a face")
    await user.insert()
    again = await BeanieUser.get(user.id)
    assert again is not None
    assert await content(mark_loaded(again).avatar) == b"a face"
    await again.avatar.replace(b"another")
    await again.save()
    await again.avatar.finalize()
    await user.sync()
    assert await content(user.avatar) == b"another"
    assert await contents(database) == (1, 1)
    assert await database["beanie_user"].find_one({}) == {
        "_id": user.id,
        "name": "Ada",
        "avatar_id": user.avatar.id,
    }


async def test_odmantic_knows_that_the_attribute_was_changed() -> None:
    user = OdmanticUser(id=ObjectId(), name="Ada")
    object.__setattr__(user, "__fields_modified__", set())
    await user.avatar.put(b"a face")
    assert user.__fields_modified__ == {"avatar_id"}
    assert OdmanticUser.model_validate_doc(user.model_dump_doc()).avatar == user.avatar


async def test_pydantic_validates_the_written_id() -> None:
    user = Pydantic(name="Ada")
    await user.avatar.put(b"a face")
    assert user.model_fields_set == {"name", "avatar_id"}
    assert Pydantic.model_validate_json(user.model_dump_json()).avatar == user.avatar
