"""What a `.tflite` is made of."""

from collections import Counter
from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]


def operators_in(tflite: bytes) -> dict[str, int]:
    """How often each operator stands in the file, over all its graphs, the most frequent first.

    The names are those of BuiltinOperator in LiteRT's schema.fbs.
    """
    return dict(Counter(_operators(tflite)).most_common())


def _operators(tflite: bytes) -> Iterator[str]:
    model = schema.Model.GetRootAs(tflite)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            code = model.OperatorCodes(operator.OpcodeIndex())
            # Operators up to 127 may stand in the old field alone.
            yield names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
