"""What an auction computes: allocation and payment rules, valuations, training, evaluation, exact export (torch)."""
