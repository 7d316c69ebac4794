"""Modelled hardware behind a real server: HTTP, driver, policy and admission are real, steps only take their time."""
