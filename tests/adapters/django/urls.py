"""The admin and the files."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from gridproxy.adapters.django import GridFSView

from .models import Animal

if not admin.site.is_registered(Animal):
    admin.site.register(Animal)

urlpatterns = [path("admin/", admin.site.urls), path("media/<path:name>", GridFSView.as_view(disposition="inline"))]
