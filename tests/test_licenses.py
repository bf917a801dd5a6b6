"""Licences: read from addresses, and what an SPDX expression allows."""

import pytest

from collectors.github.notices import license_notice
from collectors.licenses import OPEN_CONTENT, satisfied, spdx, spdx_of_url

ADDRESSES = {
    "https://creativecommons.org/licenses/by/4.0/": "CC-BY-4.0",
    "http://www.creativecommons.org/licenses/by-sa/3.0": "CC-BY-SA-3.0",
    "HTTPS://CreativeCommons.org/licenses/by-nc-nd/4.0/legalcode.de": "CC-BY-NC-ND-4.0",
    "//creativecommons.org/licenses/by-nc-sa/4.0/deed.en": "CC-BY-NC-SA-4.0",
    "https://creativecommons.org/licenses/by/3.0/us/": "CC-BY-3.0-US",
    "https://creativecommons.org/publicdomain/zero/1.0/": "CC0-1.0",
    "https://creativecommons.org/publicdomain/mark/1.0/": "CC-PDM-1.0",
    "http://arxiv.org/licenses/nonexclusive-distrib/1.0/": "LicenseRef-arXiv-nonexclusive-distrib",
    "https://www.apache.org/licenses/LICENSE-2.0.txt": "Apache-2.0",
    "https://opensource.org/license/mit/": "MIT",
    "https://www.nationalarchives.gov.uk/doc/open-government-licence/version/3/": "OGL-UK-3.0",
}
NONE = [
    *("", "http://[", "mailto:someone@creativecommons.org", "https://creativecommons.org/licenses/"),
    "https://creativecommons.org/licenses/by/9.9/",
    "https://creativecommons.org/licenses/by/3.0/zz/",
    "https://example.org/creativecommons.org/licenses/by/4.0/",
    "https://creativecommons.org.example.org/licenses/by/4.0/",
    "https://example.org/terms",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_an_address_names_its_licence(url: str) -> None:
    """Whatever the case, the scheme, the translation and the final slash."""
    assert spdx_of_url(url) == ADDRESSES[url]


@pytest.mark.parametrize("url", NONE)
def test_an_unknown_address_names_none(url: str) -> None:
    """A licence is never guessed: neither an unknown version or jurisdiction, nor another site's page."""
    assert spdx_of_url(url) == ""


@pytest.mark.parametrize("terms", ["by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd"])
@pytest.mark.parametrize("version", ["1.0", "2.0", "2.5", "3.0", "4.0"])
def test_texts_under_attribution_and_share_alike_alone_may_be_passed_on(terms: str, version: str) -> None:
    """Extraction changes a text, and whoever takes a corpus may have commerce in mind."""
    expression = spdx_of_url(f"https://creativecommons.org/licenses/{terms}/{version}/")
    assert satisfied(expression, OPEN_CONTENT) == (terms in {"by", "by-sa"})


@pytest.mark.parametrize("hostile", ["(" * 480 + "MIT" + ")" * 480, "MIT OR (" * 100_000, "(" * 1_000_000])
def test_an_expression_without_bound_allows_nothing(hostile: str) -> None:
    """Whoever reads it: parsers of such expressions call themselves for every parenthesis."""
    assert not satisfied(hostile, ["MIT"])
    assert spdx(hostile, "MIT", []) == ("MIT", "License")
    assert license_notice(f"SPDX-License-Identifier: {hostile}") == "LicenseRef-Unclear"
