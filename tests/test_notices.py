"""What a file says about its licence and its copyright."""

import pytest

from collectors.github.notices import HEADER_LINES, copyright_year, header, license_notice

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy"

GPL = "This program is free software: you can redistribute it under the terms of the GNU General Public License "

GPL_TEXT = """\
GNU GENERAL PUBLIC LICENSE
Version 3, 29 June 2007
13. Use with the GNU Affero General Public License.
either version 3 of the License, or (at your option) any later version.
"""


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("# SPDX-License-Identifier: MIT", "MIT"),
        ("/* SPDX-License-Identifier: apache-2.0 or mit */", "Apache-2.0 OR MIT"),
        (
            "<!-- SPDX-License-Identifier: GPL-2.0-or-later WITH Bison-exception-2.2 -->",
            "GPL-2.0-or-later WITH Bison-exception-2.2",
        ),
        ("# SPDX-License-Identifier: Some Own Terms", "LicenseRef-Unclear"),
        ("# Licensed under the Apache License, Version 2.0 (the", "Apache-2.0"),
        (
            "// This Source Code Form is subject to the terms of the Mozilla\n// Public License, v. 2.0.",
            "MPL-2.0",
        ),
        ("# Permission is hereby granted, free of charge, to any person\n# obtaining a copy of this", "MIT"),
        ("Released under the MIT license.", "MIT"),
        ("Redistribution and use in source and binary forms, with", "BSD-2-Clause"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"),
        ("governed by a BSD-style license that can be", "LicenseRef-BSD"),
        (GPL + "version 3, or (at your option) any later version", "GPL-3.0-or-later"),
        (GPL + "version 2 as published by the Free Software Foundation.", "GPL-2.0-only"),
        ("GNU Lesser General Public License version 2.1", "LGPL-2.1-only"),
        ("GNU Affero General Public License, version 3 ... any later version", "AGPL-3.0-or-later"),
        (GPL_TEXT, "GPL-3.0-only"),
        ("under the GNU General Public License", "LicenseRef-Unclear"),
        ("Proprietary and confidential", "LicenseRef-Proprietary"),
        ("All rights reserved.", ""),
        ("print('hello')", ""),
        ("", ""),
    ],
)
def test_a_licence_is_read_as_people_state_it(text: str, expression: str) -> None:
    """In SPDX's words, across comment marks and line ends; a statement that is unclear allows nothing."""
    assert license_notice(text) == expression


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("# Copyright 2019 Someone", 2019),
        ("# Copyright (c) 2015-2026 Someone", 2026),
        ("/* © 2016, 2018 Someone */", 2018),
        ("# (C) 2020 A\n# (C) 2012 B", 2020),
        ("# Copyright 2011-present Someone", None),
        ("# Copyright Someone", None),
        ("value = round(c) + 2019", None),
        ("x = 2019", None),
        ("# copyright 12019 or 20191", None),
    ],
)
def test_the_latest_year_of_a_notice_counts(text: str, year: int | None) -> None:
    """A range by its end; a notice that goes on to the present is none of a year."""
    assert copyright_year(text) == year


def test_the_header_is_the_first_lines() -> None:
    """What stands further down speaks of something else."""
    text = "\n" * (HEADER_LINES - 1) + "# Copyright 2019\n# Copyright 2020\n"
    assert copyright_year(header(text)) == 2019


@pytest.mark.parametrize(
    "text",
    [
        f"GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007. Third parties: {MIT}",
        f"Proprietary and confidential. Contains: {MIT}",
        "Commons Clause License Condition v1.0. Apache License, Version 2.0",
        f"{MIT}, for non-commercial purposes only",
        "Apache License Version 2.0 and also: Redistribution and use in source and binary forms",
    ],
)
def test_a_text_that_says_several_things_allows_nothing(text: str) -> None:
    """Which of them holds is for a person to read."""
    assert license_notice(text) == "LicenseRef-Unclear"
