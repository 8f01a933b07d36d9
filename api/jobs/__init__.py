"""Jobs: their public record, their enclaves, and what is relayed between owners and enclaves."""
