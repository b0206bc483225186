"""The papers' figures as runnable experiments, and the small worlds in which they are run."""
