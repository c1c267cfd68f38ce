"""
Code that runs in jobs, never in the controller: fetch a commit, build and test it, run its pipeline.

Started as `python -m mlops_core.jobs STAGE FOLDER`; everything it needs is in the folder's `request.json`.
"""
