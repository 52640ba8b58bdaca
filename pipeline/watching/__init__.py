"""Machines that are watched for months: sources, alarms, and where alarms go."""
