"""The fonts lines are set in, from Debian packages; families for calibration are not those for the test."""

from __future__ import annotations

from dataclasses import dataclass

from hycompile.models.vision_data.packages import DataPackage, opened, read


@dataclass(frozen=True)
class Fonts:
    """Font files of one package.

    Args:
        package: where they are.
        folder: below ``./usr/share/fonts`` in it.
        files: their names.
    """

    package: DataPackage
    folder: str
    files: tuple[str, ...]

    def read(self) -> dict[str, bytes]:
        """The bytes of each file by its name."""
        with opened(self.package) as archive:
            return {name: read(archive, f"./usr/share/fonts/{self.folder}/{name}") for name in self.files}


def _debian(name: str, version: str, sha256: str, licence: str) -> DataPackage:
    return DataPackage("debian", f"fonts-{name}", version, sha256, licence)


def _styles(family: str, styles: str, suffix: str) -> tuple[str, ...]:
    return tuple(f"{family}{style.strip('.')}{suffix}" for style in styles.split())


_PLAIN = "-Regular -Bold -Italic -BoldItalic"
# Faces drawn after the same models (Helvetica, Times, Courier) are all on this side.
CALIBRATION = (
    Fonts(
        _debian(
            "dejavu-core",
            "2.37-6",
            "8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76",
            "LicenseRef-Bitstream-Vera",
        ),
        "truetype/dejavu",
        (
            *_styles("DejaVuSans", ". -Bold", ".ttf"),
            *_styles("DejaVuSerif", ". -Bold", ".ttf"),
            *_styles("DejaVuSansMono", ". -Bold", ".ttf"),
        ),
    ),
    Fonts(
        _debian(
            "liberation",
            "1:1.07.4-11",
            "efd381517f958b01969343634ffcbdd60056be7779af84c6f53a005090430204",
            "GPL-2.0-only WITH Font-exception-2.0",
        ),
        "truetype/liberation",
        tuple(
            name
            for family in ("Sans", "Serif", "Mono", "SansNarrow")
            for name in _styles(f"Liberation{family}", _PLAIN, ".ttf")
        ),
    ),
    Fonts(
        _debian("lato", "2.0-2.1", "86f50af146a7df9eca4e69f0262e73e708908435ebfa833df797adfa08843bc5", "OFL-1.1"),
        "truetype/lato",
        _styles("Lato", f"{_PLAIN} -Light", ".ttf"),
    ),
    Fonts(
        _debian(
            "freefont-ttf",
            "20120503-10",
            "4ca1c21ebc479198a3a5879d236c8317d6f7b2f1c403f7890e24c02eead05615",
            "GPL-3.0-or-later WITH Font-exception-2.0",
        ),
        "truetype/freefont",
        (
            *_styles("FreeSans", ". Bold Oblique", ".ttf"),
            *_styles("FreeSerif", ". Bold Italic", ".ttf"),
            *_styles("FreeMono", ". Bold", ".ttf"),
        ),
    ),
)
TEST = (
    Fonts(
        _debian(
            "cantarell", "0.303.1-1", "8fdf5687d9e2ce70456664519025a6b48fbaaadbc5b1cfbf8b09f72c2dc5f09b", "OFL-1.1"
        ),
        "opentype/cantarell",
        _styles("Cantarell", "-Regular -Bold -Light", ".otf"),
    ),
    Fonts(
        _debian(
            "linuxlibertine", "5.3.0-6", "5c77471e910189b3e4e2eda2b1c5f549ddcaf4de8f9640b97773643970d29087", "OFL-1.1"
        ),
        "opentype/linux-libertine",
        (*_styles("LinLibertine", "_R _RB _RI _RBI", ".otf"), *_styles("LinBiolinum", "_R _RB _RI", ".otf")),
    ),
    Fonts(
        _debian(
            "open-sans", "1.11-2", "ed8c4258af6c23e5105fa18940544f060f3c9664fbe881f25130fe0c65bc1485", "Apache-2.0"
        ),
        "truetype/open-sans",
        _styles("OpenSans", f"{_PLAIN} -Light -CondBold", ".ttf"),
    ),
    Fonts(
        _debian(
            "roboto-unhinted",
            "2:0~20170802-3",
            "f89cf7d8a589489daecf750031ec50456ab3e648d49ff544f0f08753268fbd91",
            "Apache-2.0",
        ),
        "truetype/roboto/unhinted",
        (*_styles("RobotoTTF/Roboto", f"{_PLAIN} -Light", ".ttf"), *_styles("RobotoCondensed", _PLAIN, ".ttf")),
    ),
    Fonts(
        _debian("vollkorn", "4.105-2", "0c7039de3ede6c96727829635c5b10a536114029cbddf98e14716578d936307f", "OFL-1.1"),
        "truetype/vollkorn",
        _styles("Vollkorn", _PLAIN, ".ttf"),
    ),
    Fonts(
        _debian("comic-neue", "2.51-4", "6f002dc90d62fde01a2b51f333c09dc6c21ffbfc6ca22d05a84cc049b083c826", "OFL-1.1"),
        "opentype/comic-neue",
        _styles("ComicNeue", _PLAIN, ".otf"),
    ),
    Fonts(
        _debian(
            "inconsolata", "001.010-6", "bb5015c631cd47aa7d9d6e0ecd101f0e1234300f935e7719ea32ed9b640f0ac4", "OFL-1.1"
        ),
        "truetype/inconsolata",
        ("Inconsolata.otf",),
    ),
    Fonts(
        _debian("cabin", "1.5-3", "3a7a7d6057956273b1afa22534383896e2901bcb98439033d8e7852223365238", "OFL-1.1"),
        "opentype/cabin",
        _styles("Cabin", _PLAIN, ".otf"),
    ),
)
