"""The controller and what runs it: the loop, handlers, health, metrics and settings of the operator; local runs."""
