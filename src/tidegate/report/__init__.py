"""Results shown: text, JSON, a page, Prometheus text. Everything here is made from a `CheckResult` alone."""
