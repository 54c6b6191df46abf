"""The store on Firestore."""

from shared.adapters.firestore.store import FirestoreStore

__all__ = ["FirestoreStore"]
