import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.keras.determinism import be_deterministic
from broker.layout import Layout
from broker.litert import MAX_BATCH, LiteRTBody
from broker.program import MAX_EXTENT
from edge_agent.runtimes.litert_graph import Graph
from host.errors import WireError
from tests.edge_agent.runtimes.litert_bench import classifier

EXTENTS = st.integers(1, 1 << 24)
SHAPES = st.lists(EXTENTS, max_size=6).map(tuple)
LAYOUTS = st.builds(
    lambda trained, state: Layout(trainable=((trained,),), state=((state,),)),
    st.integers(1, 1 << 50),
    st.integers(0, 1 << 50),
)
SIZES = st.fixed_dictionaries(
    {},
    optional={
        "batch": st.integers(1, MAX_BATCH),
        "optimizer_size": st.integers(1, MAX_EXTENT - 1),
        "x_shape": SHAPES.filter(len),
        "y_shape": SHAPES,
    },
)


@pytest.fixture(scope="module")
def body() -> LiteRTBody:
    be_deterministic()
    return classifier("sgd").body


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, layout=LAYOUTS)
def test_sizes_that_are_not_the_files_own_are_refused_before_memory_is_taken_for_them(
    body: LiteRTBody, sizes: dict[str, Any], layout: Layout
) -> None:
    described = body.model_validate(body.model_dump() | sizes)
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            Graph(described, layout)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body.tflite) + (1 << 20)
    finally:
        tracemalloc.stop()
