"""What a training was: a report about one run, and a comparison of several, from the aggregator's ledger."""
