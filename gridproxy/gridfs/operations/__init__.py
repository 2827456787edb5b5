"""Operations on stored files: delete, update, copy, many at once, pictures."""
