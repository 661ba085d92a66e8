"""What is known of a source once it has been read: graph, weights, reference, evidence."""
