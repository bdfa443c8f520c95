"""Generated text, for reading: a change of a template shows up in review.

Update after an intended change, from the top of the repository:
  python tools/marlin_gen/gen.py 8.0 --schemes mxfp4 --out-dir tests/generator/golden/switch
  python tools/marlin_gen/gen.py 8.0 --schemes mxfp4 --selector chain \
    --out-dir tests/generator/golden/chain
"""

from pathlib import Path

import pytest
from marlin_gen.render import render
from marlin_gen.spec import spec_for_archs


@pytest.mark.parametrize("selector", ["switch", "chain"])
def test_text_is_the_golden_one(selector, tables):
    directory = Path(__file__).parent / "golden" / selector
    texts = render(spec_for_archs("8.0", tables, schemes=["mxfp4"], selector=selector), tables)
    golden = {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()}
    assert len(golden) == 3
    assert texts == golden, __doc__
