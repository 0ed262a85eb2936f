"""Prediction of the emotions of recordings, by averaging the log-probabilities of the models of all folds.

A recording is decoded (`recordings`), cut into excerpts (`excerpts`), converted to the rows of training (`front`), and
scored in batches that may span several recordings (`models`). `predictor` combines the results. Another kind of model
needs only a `FrontEnd` and a `Scorer`.
"""
