"""The front end of monitoring systems: numbers for Prometheus, and whether this server is alive and ready.

- `options`: the section `[metrics]`
- `monitored`: what is looked at, as a contract
- `outcomes`: how requests and orders end, as words for labels
- `counting`: counts what happens, as it happens
- `survey`: when the certificates of each auth block are due, found out in the background
- `trials`: whether storages can be written and the CA answers, found out in the background
- `snapshot`: what one process knows at one moment, and several of them together
- `readings`: all that is known at the moment of a scrape
- `front_end`: answers `/metrics`, `/healthz` and `/readyz`
- `monitoring`: all of them together

Every label has values from the configuration or from a list in the code: no name, serial number or address.
"""
