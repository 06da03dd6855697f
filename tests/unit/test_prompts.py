"""Prompts come out of a file in its order, or the file and the line are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.errors import PromptError
from kvbench.plan import bundled_prompts, long_text, read_prompts


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def written(content: bytes, name: str = "prompts.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return written


class TestText:
    def test_is_one_prompt_a_line_without_the_empty_ones(self, write) -> None:  # type: ignore[no-untyped-def]
        path = write("first\r\n\n  second, with  spaces\n缓存\n".encode())
        assert read_prompts(path) == ("first", "  second, with  spaces", "缓存")

    def test_may_be_a_single_line_without_its_end(self, write) -> None:  # type: ignore[no-untyped-def]
        assert read_prompts(write(b"only")) == ("only",)

    def test_loses_a_byte_order_mark(self, write) -> None:  # type: ignore[no-untyped-def]
        assert read_prompts(write(b"\xef\xbb\xbfhello")) == ("hello",)


class TestJsonl:
    def test_takes_the_prompt_key(self, write) -> None:  # type: ignore[no-untyped-def]
        path = write(b'{"prompt": "a\\nb", "id": 1}\n{"prompt": "c"}\n', "p.jsonl")
        assert read_prompts(path) == ("a\nb", "c")

    @pytest.mark.parametrize("line", [b'{"text": "a"}', b'["a"]', b'{"prompt": 3}', b'{"prompt": ""}'])
    def test_names_the_line_without_a_prompt(self, write, line: bytes) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(PromptError, match='line 2 has no text under the key "prompt"'):
            read_prompts(write(b'{"prompt": "a"}\n' + line, "p.jsonl"))

    def test_names_the_line_that_is_not_json(self, write) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(PromptError, match="line 1 is not JSON"):
            read_prompts(write(b"plain", "p.jsonl"))


class TestUnusableFiles:
    def test_are_named(self, write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        for path, why in (
            (tmp_path / "none.txt", "no such file"),
            (tmp_path, "cannot read"),
            (write(b" \n\n", "empty.txt"), "holds no prompt"),
            (write(b"fine\nb\xff\n", "latin.txt"), "line 2 is not UTF-8"),
        ):
            with pytest.raises(PromptError, match=why) as caught:
                read_prompts(path)
            assert str(path) in str(caught.value)


def test_bundled_prompts_are_in_both_languages() -> None:
    text = "".join(bundled_prompts()) + long_text()
    assert any("\u4e00" <= character <= "\u9fff" for character in text)
    assert any(character.isascii() and character.isalpha() for character in text)
