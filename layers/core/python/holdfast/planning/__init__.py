"""Pure rules: values and ``now`` in, decisions with reasons out."""
