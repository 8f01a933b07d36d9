"""Text classification over a bag of tokens: the mean of the tokens' vectors, then a linear layer.

The owner sends each text as a row of token numbers, float32, padded with 0 (arXiv:1607.01759).
"""

from chiron_builder import BuildRefused, Graph, Plan, Request, dropout, embedding_bag, logits

VOCABULARY = 4096
WIDTH = 32


def build(request: Request) -> Plan:
    """Numbers from 1 to 4095 are tokens; 0 is none."""
    if request.task != "classification" or len(request.input_shape) != 1:
        raise BuildRefused("this builder classifies rows of token numbers")
    graph = Graph(request)
    x = dropout(embedding_bag(graph.input, VOCABULARY, WIDTH), 0.2)
    return graph.plan(
        logits(x),
        epochs=15,
        batch_size=64,
        optimizer={"kind": "adamw", "learning_rate": 0.02, "weight_decay": 0.01},
    )
