"""A model with files."""

from __future__ import annotations

from django.db import models


class Animal(models.Model):
    """An animal with a picture and papers."""

    name = models.CharField(max_length=40)
    papers = models.FileField(upload_to="papers", blank=True)
    photo = models.ImageField(upload_to="photos", width_field="width", height_field="height", blank=True)
    width = models.IntegerField(null=True, blank=True)
    height = models.IntegerField(null=True, blank=True)

    class Meta:
        app_label = "django"
