"""Writes deploy/kubernetes/prometheusrule.yaml: `python -m tests.deploy.prometheusrule`.

The Prometheus operator takes rules as objects of the Kubernetes API. Theirs are those of
dashboards/rules, with YAML's aliases resolved, for not every tool on the way knows them.
"""

from __future__ import annotations

import yaml

from tests.deploy.manifests import FOLDER, ROOT

RULES = ("fleet.rules.yml", "alerts.rules.yml")
FILE = FOLDER / "prometheusrule.yaml"
HEAD = """\
# Made by `python -m tests.deploy.prometheusrule` from dashboards/rules, where the comments are.
# Needs the Prometheus operator's definitions in the cluster.
"""


class Plain(yaml.SafeDumper):
    """Writes texts of several lines as such."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """A block where there are lines."""
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


Plain.add_representer(str, Plain.represent_str)


def rendered() -> str:
    """The text of the file."""
    groups = [
        group
        for name in RULES
        for group in yaml.safe_load((ROOT / "dashboards" / "rules" / name).read_text())["groups"]
    ]
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "egress-exporter",
            "namespace": "egress-exporter",
            "labels": {"app.kubernetes.io/name": "egress-exporter"},
        },
        "spec": {"groups": groups},
    }
    # However long: a template that is broken within its braces is hard to read.
    return HEAD + yaml.dump(manifest, Dumper=Plain, sort_keys=False, width=10_000)


if __name__ == "__main__":
    FILE.write_text(rendered())
