"""A trained run and recordings to emotions: every fold's model is asked, and their log-probabilities are averaged.

A recording is decoded (`recordings`), cut into what is asked about (`excerpts`), made into rows as for training
(`front`), and asked about in batches that fill over recordings (`models`); `predictor` sums up. What another kind of
model needs is a `FrontEnd` and a `Scorer`.
"""
