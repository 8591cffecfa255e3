"""What is recorded of each shape of Python code, event by event. The same on every mechanism and version but where a line says so."""

import pytest
import vm_shapes
import vm_shapes_more
from vm_recording import here, load, recording

SHAPES = {**vm_shapes.SHAPES, **vm_shapes_more.SHAPES}


@pytest.mark.parametrize("level", ["returns", "c"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shape(shape, level, tmp_path):
    source, expected = SHAPES[shape]
    main = load(source)["main"]
    with recording(tmp_path, level, exclude=("builtins*", "_*")) as recorded:
        main()
    assert recorded.lines() == here(expected, recorded.hooks)
    assert recorded.balance() == (0, 0)
