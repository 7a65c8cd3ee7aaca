"""`python -m windward_api [FOLDER]` writes the CRD YAML."""

from windward_api.crd import main

main()
