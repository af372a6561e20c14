"""Print the JSON schema of a run's config, for editors: ``python -m burnish.config``."""

import json

from burnish.config.sections import RunConfig

print(json.dumps(RunConfig.model_json_schema(), indent=1))
