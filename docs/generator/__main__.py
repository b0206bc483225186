"""Writes or checks the generated pages."""

import sys

from docs.generator import outdated


def main(arguments: list[str]) -> int:
    """Writes the pages, or checks them; the exit code."""
    pages = outdated()
    for path, text in pages.items():
        if arguments == ["--check"]:
            print(f"{path} is not up to date. Run `make docs`.")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    return 1 if pages and arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
